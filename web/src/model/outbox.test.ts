import { describe, expect, it } from "vitest";
import {
  ATTEMPTS_MAX,
  accepted,
  discarded,
  linkLost,
  nextDueMs,
  nextToSend,
  type Outbox,
  refused,
  retried,
  seen,
  started,
  written,
} from "./outbox";

const NOW = 1_000;
const NO_ANSWER = { code: 1, message: "timeout", temporary: false };
const OUTCOME_UNKNOWN = { code: 504, message: "no answer in time", temporary: true };
const CONFLICT = { code: 409, message: "conflict", temporary: false };

function outboxOf(...ids: string[]): Outbox {
  return ids.reduce<Outbox>(
    (outbox, id) =>
      written(outbox, { id, room: "lobby", text: `text ${id}`, writtenMs: NOW }),
    [],
  );
}

function stateOf(outbox: Outbox, id: string): string | undefined {
  return outbox.find((outgoing) => outgoing.id === id)?.state.at;
}

describe("sending", () => {
  it("sends one message of a room at a time, in the order they were written", () => {
    const both = outboxOf("a", "b");

    expect(nextToSend(both, "lobby", NOW)?.id).toBe("a");
    const sending = started(both, "a");
    expect(nextToSend(sending, "lobby", NOW)).toBeUndefined();
    expect(nextToSend(accepted(sending, "a", 7), "lobby", NOW)?.id).toBe("b");
  });

  it("keeps rooms apart", () => {
    const outbox = written(started(outboxOf("a"), "a"), {
      id: "c",
      room: "other",
      text: "c",
      writtenMs: NOW,
    });

    expect(nextToSend(outbox, "other", NOW)?.id).toBe("c");
  });

  it("takes a message in once, also when two sources know it", () => {
    const outbox = outboxOf("a");

    expect(
      written(outbox, { id: "a", room: "lobby", text: "text a", writtenMs: NOW }),
    ).toBe(outbox);
  });
});

describe("no clear answer", () => {
  it.each([NO_ANSWER, OUTCOME_UNKNOWN])(
    "rests, then sends the same id again",
    (answer) => {
      const resting = refused(started(outboxOf("a", "b"), "a"), "a", answer, NOW, 500);

      expect(stateOf(resting, "a")).toBe("resting");
      expect(nextDueMs(resting)).toBe(NOW + 500);
      // The next message must not overtake it.
      expect(nextToSend(resting, "lobby", NOW + 499)).toBeUndefined();
      expect(nextToSend(resting, "lobby", NOW + 500)?.id).toBe("a");
    },
  );

  it("asks its author after too many tries, and a retry starts counting anew", () => {
    let outbox = outboxOf("a");
    for (let i = 0; i < ATTEMPTS_MAX; i++) {
      outbox = refused(started(outbox, "a"), "a", NO_ANSWER, NOW, 0);
    }

    expect(stateOf(outbox, "a")).toBe("failed");
    const again = retried(outbox, "a");
    expect(nextToSend(again, "lobby", NOW)).toMatchObject({ id: "a", attempts: 0 });
  });

  it("does not count a lost link as a try", () => {
    const lost = linkLost(started(outboxOf("a"), "a"));

    expect(nextToSend(lost, "lobby", NOW)).toMatchObject({ id: "a", attempts: 0 });
  });

  it("sends a resting message at once over a new link", () => {
    const resting = refused(started(outboxOf("a"), "a"), "a", NO_ANSWER, NOW, 9_000);

    expect(nextToSend(linkLost(resting), "lobby", NOW)?.id).toBe("a");
  });
});

describe("refusals", () => {
  it("fails at once on a conflict, says so, and lets the next message go", () => {
    const outbox = refused(started(outboxOf("a", "b"), "a"), "a", CONFLICT, NOW, 500);

    expect(outbox[0]?.state).toMatchObject({ at: "failed" });
    expect(JSON.stringify(outbox[0])).toContain("Conflict");
    expect(nextToSend(outbox, "lobby", NOW)?.id).toBe("b");
  });

  it("never takes back that a message was accepted", () => {
    const outbox = accepted(started(outboxOf("a"), "a"), "a", 3);

    expect(stateOf(refused(outbox, "a", CONFLICT, NOW, 0), "a")).toBe("accepted");
  });

  it("can be discarded", () => {
    expect(discarded(outboxOf("a", "b"), "a").map(({ id }) => id)).toEqual(["b"]);
  });
});

describe("arrival", () => {
  it("ends a message whose publication came before the reply", () => {
    const outbox = seen(
      started(outboxOf("a"), "a"),
      "lobby",
      new Map([["a", "text a"]]),
      9,
    );

    expect(outbox).toEqual([]);
  });

  it("ends a failed message that had arrived after all", () => {
    const failed = refused(started(outboxOf("a"), "a"), "a", CONFLICT, NOW, 0);

    expect(seen(failed, "lobby", new Map([["a", "text a"]]), 9)).toEqual([]);
  });

  it("keeps a message whose id shows up with another text", () => {
    const failed = refused(started(outboxOf("a"), "a"), "a", CONFLICT, NOW, 0);

    expect(seen(failed, "lobby", new Map([["a", "something else"]]), 9)).toBe(failed);
  });

  it("keeps an accepted message until the timeline reaches it", () => {
    const outbox = accepted(started(outboxOf("a"), "a"), "a", 12);

    expect(seen(outbox, "lobby", new Map(), 11)).toBe(outbox);
    expect(seen(outbox, "lobby", new Map(), 12)).toEqual([]);
  });

  it("is a matter of its own room only", () => {
    const outbox = outboxOf("a");

    expect(seen(outbox, "other", new Map([["a", "text a"]]), 9)).toBe(outbox);
  });
});
