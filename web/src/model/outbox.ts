/**
 * Messages on their way out, as a state machine without I/O.
 *
 *     waiting ──start──▶ sending ──accepted──▶ accepted ──seen──▶ (gone)
 *        ▲                  │ temporary error or no answer
 *        │                  ▼
 *        ├───due──────── resting ──too many──▶ failed ──retry──▶ waiting
 *        └──link lost───────┘      refused ───▶ failed
 *
 * A message keeps its id for life: no answer means nobody knows, and sending the same id
 * again is how one finds out. Each room sends one message at a time, so that a message
 * retried is not overtaken by the one written after it.
 */

export type SendState =
  | { readonly at: "waiting" }
  | { readonly at: "sending" }
  | { readonly at: "resting"; readonly untilMs: number }
  | { readonly at: "accepted"; readonly offset: number }
  | { readonly at: "failed"; readonly reason: string };

export interface Outgoing {
  readonly id: string;
  readonly room: string;
  readonly text: string;
  readonly writtenMs: number;
  /** Sends without a clear answer since it was written or retried by hand. */
  readonly attempts: number;
  readonly state: SendState;
}

/** In the order they were written. */
export type Outbox = readonly Outgoing[];

/** Unanswered sends before a message asks its author what to do. */
export const ATTEMPTS_MAX = 6;

/** The refusal of a send: the SDK's codes below 100, the server's above. */
export interface Refusal {
  readonly code: number;
  readonly message: string;
  readonly temporary: boolean;
}

const CODE_SERVER_MIN = 100;
const CODE_CONFLICT = 409;
const CODE_PERMISSION_DENIED = 103;
const CODE_TOO_LARGE = 413;

export function written(
  outbox: Outbox,
  message: { id: string; room: string; text: string; writtenMs: number },
): Outbox {
  if (outbox.some((outgoing) => outgoing.id === message.id)) {
    return outbox;
  }
  return [...outbox, { ...message, attempts: 0, state: { at: "waiting" } }];
}

/** What a room may send now: its oldest unsettled message, unless one is on its way. */
export function nextToSend(
  outbox: Outbox,
  room: string,
  nowMs: number,
): Outgoing | undefined {
  const head = outbox.find(
    (outgoing) =>
      outgoing.room === room &&
      outgoing.state.at !== "failed" &&
      outgoing.state.at !== "accepted",
  );
  if (head === undefined) {
    return undefined;
  }
  const { state } = head;
  const due =
    state.at === "waiting" || (state.at === "resting" && state.untilMs <= nowMs);
  return due ? head : undefined;
}

/** When a resting message of any room becomes due, for whoever keeps the timer. */
export function nextDueMs(outbox: Outbox): number | undefined {
  const due = outbox.flatMap(({ state }) =>
    state.at === "resting" ? [state.untilMs] : [],
  );
  return due.length > 0 ? Math.min(...due) : undefined;
}

export function started(outbox: Outbox, id: string): Outbox {
  return change(outbox, id, (outgoing) => ({ ...outgoing, state: { at: "sending" } }));
}

/** It is committed at this offset; it stays visible until its publication is. */
export function accepted(outbox: Outbox, id: string, offset: number): Outbox {
  return change(outbox, id, (outgoing) => ({
    ...outgoing,
    state: { at: "accepted", offset },
  }));
}

/** The server, or the lack of an answer, says no. `restMs` is how long to wait. */
export function refused(
  outbox: Outbox,
  id: string,
  refusal: Refusal,
  nowMs: number,
  restMs: number,
): Outbox {
  return change(outbox, id, (outgoing) => {
    if (outgoing.state.at === "accepted") {
      return outgoing;
    }
    if (!settlesNothing(refusal)) {
      return { ...outgoing, state: { at: "failed", reason: explain(refusal) } };
    }
    const attempts = outgoing.attempts + 1;
    if (attempts >= ATTEMPTS_MAX) {
      const reason =
        "No answer. It may have arrived; sending it again cannot make it appear twice.";
      return { ...outgoing, attempts, state: { at: "failed", reason } };
    }
    return {
      ...outgoing,
      attempts,
      state: { at: "resting", untilMs: nowMs + restMs },
    };
  });
}

/** The link is gone: what was on its way waits for the next one, and that is no attempt. */
export function linkLost(outbox: Outbox): Outbox {
  return outbox.map((outgoing) =>
    outgoing.state.at === "sending" || outgoing.state.at === "resting"
      ? { ...outgoing, state: { at: "waiting" } }
      : outgoing,
  );
}

/** Their author wants them sent after all: the same id, a fresh count. */
export function retried(outbox: Outbox, id: string): Outbox {
  return change(outbox, id, (outgoing) =>
    outgoing.state.at === "failed"
      ? { ...outgoing, attempts: 0, state: { at: "waiting" } }
      : outgoing,
  );
}

export function discarded(outbox: Outbox, id: string): Outbox {
  return outbox.filter((outgoing) => outgoing.id !== id);
}

/**
 * What the log now shows needs no place here. `shown` are the texts of the author's own
 * messages in the room, by id: the same id with another text is a conflict, not an
 * arrival. `last` is where the timeline ends, before which an accepted one must stand.
 */
export function seen(
  outbox: Outbox,
  room: string,
  shown: ReadonlyMap<string, string>,
  last: number,
): Outbox {
  const kept = outbox.filter(
    ({ id, room: other, text, state }) =>
      other !== room ||
      !(shown.get(id) === text || (state.at === "accepted" && state.offset <= last)),
  );
  return kept.length === outbox.length ? outbox : kept;
}

/** Whether a refusal leaves open what became of the message. */
function settlesNothing({ code, temporary }: Refusal): boolean {
  return temporary || code < CODE_SERVER_MIN;
}

/** A refusal in words for the author. */
function explain({ code, message }: Refusal): string {
  switch (code) {
    case CODE_CONFLICT:
      return "Conflict: this message's id already stands for another text in this room.";
    case CODE_PERMISSION_DENIED:
      return "You may not write in this room.";
    case CODE_TOO_LARGE:
      return "The message is too long.";
    default:
      return `Refused: ${message} (${code}).`;
  }
}

function change(
  outbox: Outbox,
  id: string,
  changed: (outgoing: Outgoing) => Outgoing,
): Outbox {
  return outbox.map((outgoing) => (outgoing.id === id ? changed(outgoing) : outgoing));
}
