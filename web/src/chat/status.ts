/** What a user says about themselves, for everybody to see: a few words, and do not disturb. */

import { signal } from "@preact/signals";
import { isRecord } from "../model/entries";
import type { Refusal } from "../model/outbox";
import type { Link } from "./link";

/** The mesh takes no more. */
export const STATUS_CHARS_MAX = 200;

export interface Status {
  readonly text: string;
  readonly doNotDisturb: boolean;
}

export const NO_STATUS: Status = { text: "", doNotDisturb: false };

export class OwnStatus {
  readonly current = signal<Status>(NO_STATUS);
  private link: Link | undefined;

  constructor(private readonly me: string) {}

  /** Connected: ask what was said before, on whichever device. */
  attach(link: Link): void {
    this.link = link;
    // Unknown until it works; the card shows nothing then, which is no wrong word.
    void link
      .call("presence.user", { user: this.me })
      .then((answer) => this.took(link, answer))
      .catch(() => undefined);
  }

  detach(): void {
    this.link = undefined;
  }

  /** Say it. Returns why it did not work, or undefined when it did. */
  async set(status: Status): Promise<string | undefined> {
    const { link } = this;
    if (link === undefined) {
      return "There is no connection just now.";
    }
    try {
      const answer = await link.call("presence.status", {
        text: status.text,
        do_not_disturb: status.doNotDisturb,
      });
      this.took(link, answer);
      return undefined;
    } catch (error) {
      return (error as Refusal).message;
    }
  }

  private took(link: Link, answer: unknown): void {
    if (this.link === link && isRecord(answer)) {
      const { status } = answer;
      this.current.value = {
        text: typeof status === "string" ? status : "",
        doNotDisturb: answer["do_not_disturb"] === true,
      };
    }
  }
}
