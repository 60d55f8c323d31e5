/** Everything one signed-in user does here: rooms, the open one, sending, reading. */

import { batch, computed, effect, type ReadonlySignal, signal } from "@preact/signals";
import { pauseMs } from "../model/backoff";
import { readReceipt } from "../model/entries";
import { channelOf } from "../model/names";
import {
  accepted,
  discarded,
  linkLost,
  nextDueMs,
  nextToSend,
  type Outbox,
  type Outgoing,
  type Refusal,
  refused,
  retried,
  seen,
  started,
  written,
} from "../model/outbox";
import { lastOf } from "../model/timeline";
import { Connection, type Gateway } from "./connection";
import type { Link } from "./link";
import type { TokenKeeper } from "./login";
import { Room } from "./room";
import { OwnStatus } from "./status";
import type { Memory } from "./storage";

/** One connection carries at most 128 channels; some are left for what is to come. */
export const ROOMS_MAX = 100;
/** Where a newcomer starts. */
const FIRST_ROOM = "lobby";
const SEND_METHOD = "message.send";
const SEND_PAUSE = { baseMs: 500, capMs: 8_000 };

export class Chat {
  /** By name, in the order of the alphabet. */
  readonly rooms = signal<readonly Room[]>([]);
  readonly openRoom = signal<Room | undefined>(undefined);
  readonly outbox = signal<Outbox>([]);
  /** The page is in view and has the focus. */
  readonly attended = signal(isAttended());
  /** The reader of the open room is at its newest message. */
  readonly atBottom = signal(true);
  /** Counts wishes to be taken to the newest message. */
  readonly toNewest = signal(0);
  readonly unread: ReadonlySignal<number>;
  readonly connection: Connection;
  readonly status: OwnStatus;

  private link: Link | undefined;
  private sendTimer: ReturnType<typeof setTimeout> | undefined;
  private readonly undo: (() => void)[] = [];

  constructor(
    readonly me: string,
    /** What this user may do in rooms, as far as this page knows. */
    readonly role: string,
    gateways: readonly Gateway[],
    gateway: string,
    tokens: TokenKeeper,
    private readonly memory: Memory,
  ) {
    this.unread = computed(() =>
      this.rooms.value.reduce((sum, room) => sum + room.unread.value, 0),
    );
    this.status = new OwnStatus(me);
    this.connection = new Connection(gateways, gateway, tokens, {
      onUp: (link) => this.up(link),
      onDown: () => this.down(),
    });
  }

  start(): void {
    const firstTime = this.memory.isNew;
    this.memory.greet(Date.now());
    for (const name of this.memory.rooms()) {
      this.add(name);
    }
    if (firstTime && this.rooms.value.length === 0) {
      this.add(FIRST_ROOM);
    }
    for (const unsent of this.memory.unsent()) {
      this.add(unsent.room);
      this.outbox.value = written(this.outbox.value, unsent);
    }
    this.watchAttention();
    this.watchReading();
    this.undo.push(
      this.memory.onRoomChanged((name, remembered) => {
        if (remembered !== undefined) {
          this.add(name)?.adopt(remembered);
        }
      }),
    );
    this.connection.start();
  }

  stop(): void {
    this.connection.stop();
    clearTimeout(this.sendTimer);
    for (const step of this.undo.splice(0)) {
      step();
    }
  }

  /** The room of this name, joined if need be. Undefined when there are too many. */
  add(name: string): Room | undefined {
    const known = this.find(name);
    if (known !== undefined) {
      return known;
    }
    if (this.rooms.value.length >= ROOMS_MAX) {
      return undefined;
    }
    const room = new Room(name, this.me, this.memory, (changed) => {
      this.settle(changed);
      this.pump();
    });
    this.rooms.value = [...this.rooms.value, room].sort((a, b) =>
      a.name.localeCompare(b.name),
    );
    if (this.link !== undefined) {
      room.attach(this.link);
    }
    return room;
  }

  leave(name: string): void {
    const room = this.find(name);
    if (room === undefined) {
      return;
    }
    batch(() => {
      for (const outgoing of this.outbox.value) {
        if (outgoing.room === name) {
          this.discard(outgoing.id);
        }
      }
      this.rooms.value = this.rooms.value.filter((other) => other !== room);
      if (this.openRoom.value === room) {
        this.open(undefined);
      }
    });
    room.leave();
  }

  open(name: string | undefined): void {
    const room = name === undefined ? undefined : this.add(name);
    if (room === this.openRoom.value) {
      return;
    }
    batch(() => {
      const before = this.openRoom.value;
      if (before !== undefined) {
        before.watch(false);
        before.marker.value = undefined;
        before.trim();
      }
      room?.watch(true);
      room?.markUnread();
      this.atBottom.value = true;
      this.openRoom.value = room;
    });
    if (room !== undefined) {
      this.memory.lastOpen = room.name;
      void room.check(Date.now());
    }
  }

  /** The room that was open when this user was last here. */
  get lastOpen(): string | undefined {
    const name = this.memory.lastOpen;
    return name !== undefined && this.find(name) !== undefined
      ? name
      : this.rooms.value[0]?.name;
  }

  send(room: Room, text: string): void {
    const message = {
      id: crypto.randomUUID(),
      room: room.name,
      text,
      writtenMs: Date.now(),
    };
    this.memory.keepUnsent(message);
    room.attendance.types(false);
    batch(() => {
      room.marker.value = undefined;
      this.toNewest.value++;
      this.outbox.value = written(this.outbox.value, message);
    });
    this.pump();
  }

  retry(id: string): void {
    this.outbox.value = retried(this.outbox.value, id);
    this.pump();
  }

  discard(id: string): void {
    this.memory.forgetUnsent(id);
    this.outbox.value = discarded(this.outbox.value, id);
  }

  private find(name: string): Room | undefined {
    return this.rooms.value.find((room) => room.name === name);
  }

  private up(link: Link): void {
    this.link = link;
    this.status.attach(link);
    for (const room of this.rooms.value) {
      room.attach(link);
    }
  }

  private down(): void {
    this.link = undefined;
    this.status.detach();
    clearTimeout(this.sendTimer);
    batch(() => {
      for (const room of this.rooms.value) {
        room.detach();
      }
      this.outbox.value = linkLost(this.outbox.value);
    });
  }

  /** Send what may be sent now, and come back when the next one is due. */
  private pump(): void {
    const { link } = this;
    if (link === undefined) {
      return;
    }
    const nowMs = Date.now();
    for (const room of this.rooms.value) {
      const next = nextToSend(this.outbox.value, room.name, nowMs);
      if (room.state.value.at === "live" && next !== undefined) {
        this.outbox.value = started(this.outbox.value, next.id);
        void this.deliver(link, next);
      }
    }
    clearTimeout(this.sendTimer);
    const dueMs = nextDueMs(this.outbox.value);
    if (dueMs !== undefined) {
      this.sendTimer = setTimeout(() => this.pump(), Math.max(0, dueMs - nowMs));
    }
  }

  private async deliver(
    link: Link,
    { id, room, text, attempts }: Outgoing,
  ): Promise<void> {
    const answer = await link
      .call(SEND_METHOD, { channel: channelOf(room), id, text })
      .then(readReceipt)
      .catch((refusal: Refusal) => refusal);
    if (this.link !== link) {
      // The link broke, and what it left open has been put back in line already.
      return;
    }
    if (answer !== undefined && "offset" in answer) {
      this.memory.forgetUnsent(id);
      this.outbox.value = accepted(this.outbox.value, id, answer.offset);
      const home = this.find(room);
      if (home !== undefined) {
        this.settle(home);
      }
    } else {
      const refusal = answer ?? { code: 0, message: "unclear answer", temporary: true };
      const restMs = pauseMs(attempts, SEND_PAUSE, Math.random());
      this.outbox.value = refused(this.outbox.value, id, refusal, Date.now(), restMs);
    }
    this.pump();
  }

  /** Take out of the outbox what the room's timeline shows by now. */
  private settle(room: Room): void {
    if (!this.outbox.value.some((outgoing) => outgoing.room === room.name)) {
      return;
    }
    const timeline = room.timeline.value;
    if (!timeline.loaded) {
      return;
    }
    const shown = new Map(
      timeline.entries.flatMap((entry) =>
        entry.kind === "message" && entry.author === this.me
          ? [[entry.id, entry.text] as const]
          : [],
      ),
    );
    const before = this.outbox.value;
    const after = seen(before, room.name, shown, lastOf(timeline));
    for (const { id } of before) {
      if (!after.some((outgoing) => outgoing.id === id)) {
        this.memory.forgetUnsent(id);
      }
    }
    this.outbox.value = after;
  }

  private watchAttention(): void {
    const look = () => {
      this.attended.value = isAttended();
      if (this.attended.value) {
        void this.openRoom.value?.check(Date.now());
      }
    };
    for (const event of ["focus", "blur"]) {
      window.addEventListener(event, look);
      this.undo.push(() => window.removeEventListener(event, look));
    }
    document.addEventListener("visibilitychange", look);
    this.undo.push(() => document.removeEventListener("visibilitychange", look));
  }

  /** What is on screen in front of a reader is read; what is not gets a line above it. */
  private watchReading(): void {
    this.undo.push(
      effect(() => {
        const room = this.openRoom.value;
        if (room === undefined || room.unread.value === 0) {
          return;
        }
        const seesIt = this.attended.value && this.atBottom.value;
        if (!seesIt || !room.caughtUp.value) {
          room.markUnread();
        }
        if (seesIt && room.caughtUp.value) {
          room.readAll();
        }
      }),
    );
  }
}

function isAttended(): boolean {
  return document.visibilityState === "visible" && document.hasFocus();
}
