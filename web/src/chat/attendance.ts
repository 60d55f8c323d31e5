/** Who is in one room and who types there; and telling that one types oneself. */

import { computed, type ReadonlySignal, signal } from "@preact/signals";
import {
  counted,
  joined,
  left,
  listed,
  type Members,
  NOBODY,
  readMembers,
  readPresenceNews,
  statusSet,
} from "../model/members";
import type { Refusal } from "../model/outbox";
import {
  NOBODY_TYPES,
  nextEndMs,
  RENEW_MS,
  stillTyping,
  type Typing,
  typingEnded,
  typingInWords,
  typingTold,
} from "../model/typing";
import { isTemporary, type Link } from "./link";

/** The list shows this many; of a larger room the rest is a number. */
export const LISTED_MAX = 200;
/** The list of a large room is fetched again at most this often. */
const REFRESH_MS = 20_000;
/** Presence may be away for a moment. */
const RETRY_MS = 5_000;

type Change = (members: Members) => Members;

export class Attendance {
  readonly members = signal<Members>(NOBODY);
  /** Who is here cannot be said just now. */
  readonly unknown = signal(false);
  readonly typingWords: ReadonlySignal<string>;

  private readonly typing = signal<Typing>(NOBODY_TYPES);
  private link: Link | undefined;
  private wanted = false;
  private fetching = false;
  private fetchedMs = 0;
  /** Joins and leaves that came while the list was on its way. */
  private meanwhile: Change[] = [];
  private fetchTimer: ReturnType<typeof setTimeout> | undefined;
  private typingTimer: ReturnType<typeof setTimeout> | undefined;
  private toldTypingMs = 0;

  constructor(
    private readonly channel: string,
    me: string,
  ) {
    this.typingWords = computed(() => typingInWords(this.typing.value, me));
  }

  /** The room is heard from now on. Whoever was here before may have gone. */
  attach(link: Link): void {
    this.link = link;
    this.toldTypingMs = 0;
    this.fetchedMs = 0;
    if (this.wanted) {
      void this.fetch();
    }
  }

  detach(): void {
    this.link = undefined;
    this.fetching = false;
    this.meanwhile = [];
    clearTimeout(this.fetchTimer);
    clearTimeout(this.typingTimer);
    this.typing.value = NOBODY_TYPES;
  }

  /** Somebody looks at this room, or no longer does. Lists are fetched for readers only. */
  watch(wanted: boolean): void {
    this.wanted = wanted;
    if (wanted && (!this.members.value.known || this.fetchedMs === 0)) {
      void this.fetch();
    }
  }

  join(user: string): void {
    this.change((members) => joined(members, user));
  }

  leave(user: string): void {
    const nowMs = Date.now();
    this.change((members) => left(members, user, nowMs));
    this.typing.value = typingEnded(this.typing.value, user);
  }

  /** An ephemeral publication; false when it is none of presence's. */
  hear(data: unknown): boolean {
    const news = readPresenceNews(data);
    switch (news?.kind) {
      case undefined:
        return false;
      case "counts":
        this.members.value = counted(this.members.value, news.users, news.large);
        if (!news.large || Date.now() - this.fetchedMs > REFRESH_MS) {
          void this.fetch();
        }
        return true;
      case "status": {
        const { user, status, doNotDisturb } = news;
        this.change((members) => statusSet(members, user, status, doNotDisturb));
        return true;
      }
      case "typing":
        this.typing.value = typingTold(
          this.typing.value,
          news.user,
          news.ttlMs,
          Date.now(),
        );
        this.expireTyping();
        return true;
    }
  }

  /** A message of this user has come. */
  spoke(user: string): void {
    this.typing.value = typingEnded(this.typing.value, user);
  }

  /** One types here, or has emptied the field again. */
  types(something: boolean): void {
    const nowMs = Date.now();
    const telling = this.toldTypingMs > 0;
    if (something ? nowMs - this.toldTypingMs < RENEW_MS : !telling) {
      return;
    }
    this.toldTypingMs = something ? nowMs : 0;
    // A convenience for others: nobody waits for it, and it is told again soon.
    this.link
      ?.call("presence.typing", { channel: this.channel, typing: something })
      .catch(() => undefined);
  }

  private change(change: Change): void {
    if (this.fetching) {
      this.meanwhile.push(change);
    }
    this.members.value = change(this.members.value);
  }

  private async fetch(): Promise<void> {
    const { link } = this;
    if (link === undefined || this.fetching || !this.wanted) {
      return;
    }
    clearTimeout(this.fetchTimer);
    this.fetching = true;
    this.meanwhile = [];
    const asked = { channel: this.channel, after: "", limit: LISTED_MAX };
    let again = true;
    const page = await link
      .call("presence.members", asked)
      .then(readMembers)
      .catch((refusal: Refusal) => {
        again = isTemporary(refusal);
        return undefined;
      });
    if (this.link !== link) {
      return;
    }
    this.fetching = false;
    this.unknown.value = page === undefined;
    if (page === undefined) {
      if (again) {
        this.fetchTimer = setTimeout(() => void this.fetch(), RETRY_MS);
      }
      return;
    }
    this.fetchedMs = Date.now();
    // Whoever came or went while the list was on its way may or may not be in it: said
    // once more, it is right either way.
    this.members.value = this.meanwhile.reduce(
      (members, change) => change(members),
      listed(this.members.value, page),
    );
    this.meanwhile = [];
  }

  private expireTyping(): void {
    clearTimeout(this.typingTimer);
    const endMs = nextEndMs(this.typing.value);
    if (endMs !== undefined) {
      this.typingTimer = setTimeout(
        () => {
          this.typing.value = stillTyping(this.typing.value, Date.now());
          this.expireTyping();
        },
        Math.max(0, endMs - Date.now()),
      );
    }
  }
}
