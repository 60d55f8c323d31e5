/** One room: its subscription, its timeline, and what its reader has seen of it. */

import { computed, type ReadonlySignal, signal } from "@preact/signals";
import { pauseMs } from "../model/backoff";
import { type Entry, readEntry } from "../model/entries";
import { channelOf } from "../model/names";
import type { Refusal } from "../model/outbox";
import {
  heardAll,
  lastOf,
  messagesOf,
  missing,
  newestPage,
  pageAfter,
  pageBefore,
  positionOf,
  standsAt,
  type Timeline,
  trimmed,
  UNKNOWN,
  unreadAfter,
} from "../model/timeline";
import { Agents } from "./agents";
import { Attendance } from "./attendance";
import type { ChannelPosition, HistoryPage, Link } from "./link";
import { isTemporary } from "./link";
import type { Memory, RoomMemory } from "./storage";

export type RoomState =
  | { readonly at: "away" }
  | { readonly at: "joining" }
  | { readonly at: "live" }
  | { readonly at: "refused"; readonly reason: string };

/** Entries a room shows at first, and adds when its reader scrolls back. */
const PAGE_ENTRIES = 60;
/** Entries fetched at once to fill a hole. */
const FILL_ENTRIES = 500;
const FILL_PAUSE = { baseMs: 500, capMs: 10_000 };
/** In a flood, messages are drawn at most this often. */
const GATHER_MS = 40;
/** A page in view is compared with the server's at most this often. */
const CHECK_EVERY_MS = 10_000;

const CODE_UNRECOVERABLE = 112;
const CODE_TIMEOUT = 1;

export class Room {
  readonly timeline = signal<Timeline>(UNKNOWN);
  readonly state = signal<RoomState>({ at: "away" });
  readonly draft = signal("");
  /** Everything up to this offset was seen by this user. */
  readonly read = signal<number | undefined>(undefined);
  /** Everything that happened while this page was away has arrived. */
  readonly caughtUp = signal(false);
  /** The offset behind which the "new" line stands, while the room is open. */
  readonly marker = signal<number | undefined>(undefined);
  readonly loadingOlder = signal(false);
  /** Why older messages did not come; undefined while all is well. */
  readonly olderTrouble = signal<string | undefined>(undefined);
  /** Why the newest messages are late; undefined while all is well. */
  readonly trouble = signal<string | undefined>(undefined);
  readonly unread: ReadonlySignal<number>;
  readonly attendance: Attendance;
  readonly agents: Agents;

  private readonly channel: string;
  private link: Link | undefined;
  private leaveChannel: (() => void) | undefined;
  private arriving: Entry[] = [];
  private filling = false;
  private fillFailures = 0;
  private fillTimer: ReturnType<typeof setTimeout> | undefined;
  private shownMs = 0;
  private watched = false;
  private checkedMs = 0;
  /** The life of the log that `read` counts in. */
  private readEpoch: string | undefined;

  constructor(
    readonly name: string,
    readonly me: string,
    private readonly memory: Memory,
    private readonly changed: (room: Room) => void,
  ) {
    this.channel = channelOf(name);
    this.attendance = new Attendance(this.channel, me);
    this.agents = new Agents(this.channel);
    const kept = memory.room(name);
    this.draft.value = kept?.draft ?? "";
    this.read.value = kept !== undefined && kept.read >= 0 ? kept.read : undefined;
    this.readEpoch = kept?.epoch;
    this.unread = computed(() => {
      const read = this.read.value;
      return read === undefined ? 0 : unreadAfter(this.timeline.value, read, me);
    });
    this.remember();
  }

  attach(link: Link): void {
    this.link = link;
    this.caughtUp.value = false;
    this.state.value = { at: "joining" };
    this.leaveChannel = link.subscribe(this.channel, positionOf(this.timeline.value), {
      onSubscribed: (at) => this.subscribed(at),
      onPublication: (publication) => this.arrived(readEntry(publication)),
      onEphemeral: (ephemeral) =>
        void (this.attendance.hear(ephemeral.data) || this.agents.hear(ephemeral)),
      onJoin: (user) => this.attendance.join(user),
      onLeave: (user) => this.attendance.leave(user),
      onInterrupted: () => {
        if (this.link === link && this.state.value.at === "live") {
          this.state.value = { at: "joining" };
        }
      },
      onTrouble: (reason) => {
        if (this.link === link) {
          this.trouble.value = reason;
        }
      },
      onRefused: (reason, code) => {
        if (this.link === link) {
          this.state.value = { at: "refused", reason: `${reason} (${code})` };
        }
      },
    });
  }

  /** The link is gone, or about to be. What is shown stays. */
  detach(): void {
    this.link = undefined;
    this.attendance.detach();
    this.agents.detach();
    this.leaveChannel = undefined;
    this.trouble.value = undefined;
    this.loadingOlder.value = false;
    clearTimeout(this.fillTimer);
    this.flush();
    if (this.state.value.at !== "refused") {
      this.state.value = { at: "away" };
    }
  }

  /** Somebody looks at this room, or no longer does. */
  watch(wanted: boolean): void {
    this.watched = wanted;
    this.attendance.watch(wanted);
    this.agents.watch(wanted);
  }

  /** Leave for good: stop hearing the room and forget it. */
  leave(): void {
    this.leaveChannel?.();
    this.detach();
    this.memory.forgetRoom(this.name);
  }

  /** The reader has seen everything there is to see. */
  readAll(): void {
    const { loaded } = this.timeline.value;
    const last = lastOf(this.timeline.value);
    if (loaded && last > (this.read.value ?? -1)) {
      this.read.value = last;
      this.remember();
    }
  }

  /** Put the "new" line where reading stopped, if there is anything behind it. */
  markUnread(): void {
    const read = this.read.value;
    if (
      this.marker.value === undefined &&
      read !== undefined &&
      this.unread.value > 0
    ) {
      this.marker.value = read;
    }
  }

  setDraft(text: string): void {
    this.draft.value = text;
    this.attendance.types(text.trim() !== "");
    this.remember();
  }

  /** What another tab of this user did here. */
  adopt(memory: RoomMemory): void {
    if (memory.epoch === this.readEpoch && memory.read > (this.read.value ?? -1)) {
      this.read.value = memory.read;
    }
  }

  async loadOlder(): Promise<void> {
    const { link } = this;
    const { base, complete, epoch, loaded } = this.timeline.value;
    if (link === undefined || !loaded || complete || this.loadingOlder.value) {
      return;
    }
    this.loadingOlder.value = true;
    this.olderTrouble.value = undefined;
    try {
      const page = await link.history(this.channel, epoch, {
        ask: "before",
        offset: base + 1,
        limit: PAGE_ENTRIES,
      });
      // What was trimmed or started over meanwhile no longer touches this page.
      if (this.link === link && this.timeline.value.base === base) {
        this.update(pageBefore(this.timeline.value, page.publications.map(readEntry)));
      }
    } catch (error) {
      const refusal = error as Refusal;
      if (this.link === link) {
        this.olderTrouble.value = refusal.message;
        this.startOverIf(refusal);
      }
    } finally {
      if (this.link === link) {
        this.loadingOlder.value = false;
      }
    }
  }

  /** Let go of what is far above a reader who is at the bottom. */
  trim(): void {
    this.timeline.value = trimmed(this.timeline.value);
  }

  /**
   * Compare with the server where the log stands, for a reader who comes back to the
   * page: it finds a socket that died in its sleep, and any entry that never came.
   */
  async check(nowMs: number): Promise<void> {
    const { link } = this;
    const soonEnough = nowMs - this.checkedMs >= CHECK_EVERY_MS;
    if (link === undefined || this.state.value.at !== "live" || !soonEnough) {
      return;
    }
    this.checkedMs = nowMs;
    try {
      const page = await link.history(this.channel, undefined, {
        ask: "newest",
        limit: 1,
      });
      if (this.link === link) {
        this.flush();
        this.update(standsAt(this.timeline.value, page.epoch, page.top));
        this.catchUp();
      }
    } catch (error) {
      if ((error as Refusal).code === CODE_TIMEOUT && this.link === link) {
        link.giveUp("no answer");
      }
    }
  }

  private subscribed({ epoch, offset, recovered }: ChannelPosition): void {
    this.flush();
    this.state.value = { at: "live" };
    if (this.link !== undefined) {
      this.attendance.attach(this.link);
      this.agents.attach(this.link);
    }
    if (epoch !== undefined && !recovered) {
      this.update(standsAt(this.timeline.value, epoch, offset));
    }
    this.fillFailures = 0;
    this.trouble.value = undefined;
    // What was recovered follows this event at once, in the same turn of the loop.
    queueMicrotask(() => this.catchUp());
    this.changed(this);
  }

  /**
   * Entries come one by one and become visible together: a recovery brings thousands at
   * once, and in a flood drawing each would take longer than the next takes to come. One
   * that comes alone does not wait.
   */
  private arrived(entry: Entry): void {
    if (entry.kind === "message") {
      this.attendance.spoke(entry.author);
    }
    this.arriving.push(entry);
    if (this.arriving.length === 1) {
      const waitMs = this.shownMs + GATHER_MS - Date.now();
      if (waitMs > 0) {
        setTimeout(() => this.catchUp(), waitMs);
      } else {
        queueMicrotask(() => this.catchUp());
      }
    }
  }

  private catchUp(): void {
    this.flush();
    this.fill();
    if (this.state.value.at === "live" && !missing(this.timeline.value)) {
      this.caughtUp.value = true;
    }
  }

  private flush(): void {
    if (this.arriving.length > 0) {
      const entries = this.arriving;
      this.arriving = [];
      this.shownMs = Date.now();
      this.update(heardAll(this.timeline.value, entries));
    }
  }

  private update(timeline: Timeline): void {
    const before = this.timeline.value;
    if (timeline === before) {
      return;
    }
    // A room that nobody looks at has no place in it to keep: it may be trimmed at once.
    this.timeline.value = this.watched ? timeline : trimmed(timeline);
    const otherLog = this.readEpoch !== undefined && this.readEpoch !== timeline.epoch;
    if (otherLog) {
      // Offsets of another log say nothing about what was read in this one.
      this.marker.value = undefined;
    }
    if (timeline.loaded && (this.readEpoch === undefined || otherLog)) {
      // A room joined now has no past to catch up with.
      this.read.value = lastOf(timeline);
      this.readEpoch = timeline.epoch;
      this.remember();
    }
    this.readOwn(before);
    this.agents.answered(
      messagesOf({ ...timeline, entries: addedSince(before, timeline) }),
    );
    this.changed(this);
  }

  /** Who wrote something here, on whichever device, had read what came before it. */
  private readOwn(before: Timeline): void {
    const own = addedSince(before, this.timeline.value).findLast(
      (entry) => entry.kind === "message" && entry.author === this.me,
    );
    if (before.loaded && own !== undefined && own.offset > (this.read.value ?? -1)) {
      this.read.value = own.offset;
      this.remember();
    }
  }

  /** Ask history for what is missing, until nothing is. One question at a time. */
  private fill(): void {
    const { link } = this;
    // Only subscribers may read: before that, history would refuse for good.
    const may = link !== undefined && this.state.value.at === "live";
    if (may && !this.filling && missing(this.timeline.value)) {
      clearTimeout(this.fillTimer);
      this.filling = true;
      void this.fillFrom(link).then((done) => {
        this.filling = false;
        // Otherwise a timer, or the next subscription, takes it up again.
        if (done || this.link !== link) {
          this.catchUp();
        }
      });
    }
  }

  /** True when nothing is missing any more. */
  private async fillFrom(link: Link): Promise<boolean> {
    while (this.link === link) {
      const wanted = missing(this.timeline.value);
      if (wanted === undefined) {
        return true;
      }
      try {
        const { epoch } = this.timeline.value;
        const page = await link.history(
          this.channel,
          epoch,
          wanted.ask === "newest"
            ? { ask: "newest", limit: PAGE_ENTRIES }
            : { ask: "after", offset: wanted.offset, limit: FILL_ENTRIES },
        );
        if (this.link !== link) {
          return false;
        }
        this.fillFailures = 0;
        this.trouble.value = undefined;
        this.flush();
        this.update(filled(this.timeline.value, wanted.ask, page));
      } catch (error) {
        // Interrupted subscriptions are taken up by the SDK, and this by them.
        if (this.link === link && this.state.value.at === "live") {
          this.fillFailed(error as Refusal);
        }
        return false;
      }
    }
    return false;
  }

  private fillFailed(refusal: Refusal): void {
    if (this.startOverIf(refusal) || isTemporary(refusal)) {
      this.trouble.value = refusal.message;
      const pause = pauseMs(this.fillFailures++, FILL_PAUSE, Math.random());
      this.fillTimer = setTimeout(() => this.catchUp(), pause);
      return;
    }
    this.state.value = {
      at: "refused",
      reason: `${refusal.message} (${refusal.code})`,
    };
  }

  /** Another life of the log than the one asked about: what is shown is history. */
  private startOverIf(refusal: Refusal): boolean {
    if (refusal.code !== CODE_UNRECOVERABLE) {
      return false;
    }
    this.update(UNKNOWN);
    return true;
  }

  private remember(): void {
    this.memory.setRoom(this.name, {
      read: this.read.value ?? -1,
      epoch: this.readEpoch,
      draft: this.draft.value,
    });
  }
}

/** Entries at the end that were not there before. */
function addedSince(before: Timeline, { base, entries }: Timeline): readonly Entry[] {
  return entries.slice(Math.max(0, lastOf(before) - base));
}

function filled(
  timeline: Timeline,
  ask: "newest" | "after",
  page: HistoryPage,
): Timeline {
  const standing = standsAt(timeline, page.epoch, page.top);
  const entries = page.publications.map(readEntry);
  if (ask === "newest") {
    return newestPage(standing, entries, page.top);
  }
  // The log has begun another life in between: this page continues nothing.
  return standing.loaded ? pageAfter(standing, entries, page.top) : standing;
}
