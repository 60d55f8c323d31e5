import { describe, expect, it } from "vitest";
import { readEntry, readReceipt } from "./entries";
import { doneAgain } from "./run-events";

const MESSAGE = { type: "message", id: "m1", text: "hello" };

function published(data: unknown, time?: number) {
  return readEntry({ offset: 4, data, user: "ada", time });
}

describe("reading a publication", () => {
  it("finds the message, its author and its time", () => {
    expect(published({ ...MESSAGE, at: 1_700_000_000_000 })).toEqual({
      kind: "message",
      offset: 4,
      id: "m1",
      author: "ada",
      text: "hello",
      at: 1_700_000_000_000,
    });
  });

  it("takes the commit time where the message itself has none", () => {
    expect(published(MESSAGE, 42)).toMatchObject({ at: 42 });
    expect(published(MESSAGE)).toMatchObject({ at: undefined });
  });

  it("ignores fields it does not know", () => {
    expect(published({ ...MESSAGE, agent: true, reply: { to: 1 } }).kind).toBe(
      "message",
    );
  });

  it.each([
    null,
    "text",
    17,
    [],
    {},
    { type: "poll", id: "m1", text: "?" },
    { type: "message", id: "", text: "no id" },
    { type: "message", id: "m1" },
    { type: "message", id: "m1", text: { toString: "no" } },
  ])("gives %j its place in the order and shows nothing", (data) => {
    expect(published(data)).toEqual({ kind: "other", offset: 4 });
  });
});

describe("answers of agents", () => {
  it("say which run they did again", () => {
    const answer = (run: object) =>
      readEntry({
        offset: 4,
        data: { ...MESSAGE, agent: { name: "owl" }, run },
        user: "agent:owl",
        time: undefined,
      });
    const first = answer({ id: "r1", outcome: "failed" });
    const second = answer({ id: "r2", outcome: "completed", retryOf: "r1" });
    const forged = published({ ...MESSAGE, run: { id: "r3", retryOf: "r9" } });
    const messages = [first, second, forged].filter(
      (entry) => entry.kind === "message",
    );
    expect(messages).toHaveLength(3);
    expect(doneAgain(messages)).toEqual(["r1"]);
  });
});

describe("reading a receipt", () => {
  it("finds the offset", () => {
    expect(readReceipt({ offset: 9, id: "m1", at: 5 })).toEqual({ offset: 9, at: 5 });
  });

  it.each([undefined, {}, { offset: 0 }, { offset: "9" }, { offset: 1.5 }])(
    "does not take %j for one",
    (data) => {
      expect(readReceipt(data)).toBeUndefined();
    },
  );
});
