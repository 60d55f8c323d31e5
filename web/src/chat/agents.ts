/** What agents do in one room: heard, asked for where something is missing, and answered. */

import { signal } from "@preact/signals";
import type { Message } from "../model/entries";
import { isRecord } from "../model/entries";
import type { Refusal } from "../model/outbox";
import {
  type AgentFace,
  mayBeAgent,
  type RunEvent,
  readFace,
  readRunEvent,
  readSnapshots,
} from "../model/run-events";
import {
  type Approval,
  isMissing,
  NO_RUNS,
  type Run,
  type Runs,
  runOver,
  snapshotTaken,
  told,
  wantsSnapshot,
} from "../model/runs";
import { type Ephemeral, isTemporary, type Link } from "./link";

/** Text is drawn at most this often. */
const GATHER_MS = 40;
/** A hole often fills by itself: events that overtook each other. */
const ASK_AFTER_MS = 60;
const ASK_AGAIN_MS = 250;
const ASK_AGAIN_MAX_MS = 4_000;
/** How often silence is looked for. */
const LOOK_MS = 2_000;
/** Steps of runs that have ended, kept to be unfolded below their answers. */
const KEPT_MAX = 50;

export interface Answered {
  readonly approve: boolean;
  readonly arguments?: unknown;
  readonly reason?: string;
}

export class Agents {
  readonly runs = signal<Runs>(NO_RUNS);
  /** How runs that ended while one watched came about, by run. */
  readonly kept = signal<ReadonlyMap<string, Run>>(new Map());
  /** Who can be asked here; undefined before somebody wanted to know. */
  readonly faces = signal<readonly AgentFace[] | undefined>(undefined);

  private link: Link | undefined;
  private wanted = false;
  private arriving: RunEvent[] = [];
  private gatherTimer: ReturnType<typeof setTimeout> | undefined;
  private asking = false;
  private askTimer: ReturnType<typeof setTimeout> | undefined;
  private askedInVain = 0;
  private lookTimer: ReturnType<typeof setInterval> | undefined;
  private shownMs = 0;

  constructor(private readonly channel: string) {}

  /** The room is heard from now on; what was said meanwhile has to be asked for. */
  attach(link: Link): void {
    this.link = link;
    this.askedInVain = 0;
    if (this.wanted || this.runs.value.live.size > 0) {
      this.ask(0);
    }
    if (this.wanted) {
      void this.findFaces();
    }
  }

  detach(): void {
    this.link = undefined;
    this.asking = false;
    this.stopTimers();
    this.flush();
  }

  /** Somebody looks at this room, or no longer does. */
  watch(wanted: boolean): void {
    this.wanted = wanted;
    if (wanted && this.link !== undefined) {
      this.ask(0);
      void this.findFaces();
    }
  }

  /** An ephemeral publication; false when it is none of an agent's. */
  hear({ data, user }: Ephemeral): boolean {
    const event = mayBeAgent(user) ? readRunEvent(data) : undefined;
    if (event === undefined) {
      return false;
    }
    this.arriving.push(event);
    this.gatherTimer ??= setTimeout(
      () => this.flush(),
      Math.max(0, this.shownMs + GATHER_MS - Date.now()),
    );
    return true;
  }

  /** Messages that stand in the room's log. */
  answered(messages: readonly Message[]): void {
    if (messages.some(({ run }) => run !== undefined)) {
      // What was told before the answer belongs to it.
      this.flush();
    }
    let runs = this.runs.value;
    const kept = new Map(this.kept.value);
    for (const { run } of messages) {
      if (run !== undefined) {
        const ended = runs.live.get(run.id);
        if (ended !== undefined) {
          kept.set(run.id, ended);
        }
        runs = runOver(runs, run.id);
      }
    }
    if (runs !== this.runs.value) {
      for (const oldest of kept.keys()) {
        if (kept.size <= KEPT_MAX) {
          break;
        }
        kept.delete(oldest);
      }
      this.kept.value = kept;
      this.runs.value = runs;
    }
  }

  /** Stop a run. Rejects with a `Refusal`. */
  async stop(run: string): Promise<void> {
    await this.call("run.stop", { channel: this.channel, run });
  }

  /** Do a run that failed again. Once, however often it is asked for. Rejects with a `Refusal`. */
  async retry(run: string): Promise<void> {
    await this.call("run.retry", { channel: this.channel, run });
  }

  /** Answer an approval. Rejects with a `Refusal`. */
  async answer(approval: Approval, answered: Answered): Promise<void> {
    await this.call("approval.answer", {
      channel: this.channel,
      approval: approval.id,
      digest: approval.digest,
      ...answered,
    });
  }

  private async call(method: string, data: unknown): Promise<unknown> {
    if (this.link === undefined) {
      const refusal: Refusal = { code: 0, message: "no connection", temporary: true };
      throw refusal;
    }
    return await this.link.call(method, data);
  }

  private async findFaces(): Promise<void> {
    const { link } = this;
    if (link === undefined || this.faces.value !== undefined) {
      return;
    }
    // Without an agent service there is nobody to be asked, which is as it should be.
    const answer = await link
      .call("agent.list", { channel: this.channel })
      .catch(() => undefined);
    if (this.link === link && isRecord(answer) && Array.isArray(answer["agents"])) {
      const listed: unknown[] = answer["agents"];
      this.faces.value = listed.flatMap((one) => readFace(one) ?? []);
    }
  }

  private flush(): void {
    clearTimeout(this.gatherTimer);
    this.gatherTimer = undefined;
    if (this.arriving.length === 0) {
      return;
    }
    const events = this.arriving;
    this.arriving = [];
    const nowMs = Date.now();
    this.shownMs = nowMs;
    this.runs.value = events.reduce(
      (runs, event) => told(runs, event, nowMs),
      this.runs.value,
    );
    this.look();
  }

  /** See whether something is missing, now and as long as somebody is at work. */
  private look(): void {
    const runs = this.runs.value;
    if (runs.live.size === 0) {
      this.stopTimers();
      this.askedInVain = 0;
      return;
    }
    this.lookTimer ??= setInterval(() => this.look(), LOOK_MS);
    if ([...runs.live.values()].some(isMissing)) {
      this.ask(this.askedInVain === 0 ? ASK_AFTER_MS : this.pauseMs());
    } else if (wantsSnapshot(runs, Date.now())) {
      this.ask(0);
    } else {
      this.askedInVain = 0;
    }
  }

  private pauseMs(): number {
    return Math.min(ASK_AGAIN_MS * 2 ** (this.askedInVain - 1), ASK_AGAIN_MAX_MS);
  }

  private ask(afterMs: number): void {
    if (this.asking || this.askTimer !== undefined || this.link === undefined) {
      return;
    }
    this.askTimer = setTimeout(() => {
      this.askTimer = undefined;
      void this.askNow();
    }, afterMs);
  }

  private async askNow(): Promise<void> {
    const { link } = this;
    // What was missing may have come by itself.
    const needless = this.askedInVain === 0 && !this.wanted && !this.isWanting();
    if (link === undefined || this.asking || needless) {
      return;
    }
    this.asking = true;
    let again = true;
    const snapshots = await link
      .call("run.snapshot", { channel: this.channel })
      .then(readSnapshots)
      .catch((refusal: Refusal) => {
        again = isTemporary(refusal);
        return undefined;
      });
    if (this.link !== link) {
      return;
    }
    this.asking = false;
    this.flush();
    if (snapshots !== undefined) {
      this.runs.value = snapshotTaken(this.runs.value, snapshots, Date.now());
    }
    if (!again) {
      return;
    }
    this.askedInVain = this.isWanting() ? this.askedInVain + 1 : 0;
    if (snapshots === undefined && this.runs.value.live.size === 0) {
      this.askedInVain += 1;
      this.ask(ASK_AGAIN_MAX_MS);
    } else {
      this.look();
    }
  }

  private isWanting(): boolean {
    return wantsSnapshot(this.runs.value, Date.now());
  }

  private stopTimers(): void {
    clearInterval(this.lookTimer);
    clearTimeout(this.askTimer);
    this.lookTimer = undefined;
    this.askTimer = undefined;
  }
}
