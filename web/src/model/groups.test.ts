import { describe, expect, it } from "vitest";
import type { Message } from "./entries";
import { byDay, GROUP_ENTRIES_MAX, SILENCE_MS } from "./groups";

const NOON = new Date(2026, 2, 3, 12, 0).getTime();
const DAY_MS = 24 * 3600 * 1_000;

function message(offset: number, author: string, at: number | undefined): Message {
  return { kind: "message", offset, id: `id-${offset}`, author, text: "…", at };
}

function shape(messages: Message[], breakBefore?: number) {
  return byDay(messages, breakBefore).map(({ date, groups }) => ({
    date,
    groups: groups.map((group) => group.messages.map(({ offset }) => offset)),
  }));
}

describe("grouping", () => {
  it("puts one author's lines under one heading until a silence", () => {
    const lines = [
      message(1, "ada", NOON),
      message(2, "ada", NOON + SILENCE_MS),
      message(3, "ada", NOON + 2 * SILENCE_MS + 1),
      message(4, "bob", NOON + 2 * SILENCE_MS + 2),
    ];

    expect(shape(lines)).toEqual([{ date: "2026-03-03", groups: [[1, 2], [3], [4]] }]);
  });

  it("repeats the heading in a long speech, wherever the page begins", () => {
    const speech = Array.from({ length: 2 * GROUP_ENTRIES_MAX }, (_, i) =>
      message(i + 1, "ada", NOON),
    );

    const whole = shape(speech)[0]?.groups ?? [];
    const later = shape(speech.slice(10))[0]?.groups ?? [];
    expect(whole.map((group) => group.length)).toEqual([49, 50, 1]);
    expect(later.slice(1)).toEqual(whole.slice(1));
  });

  it("starts a new day with its date", () => {
    const lines = [message(1, "ada", NOON), message(2, "ada", NOON + DAY_MS)];

    expect(shape(lines).map(({ date }) => date)).toEqual(["2026-03-03", "2026-03-04"]);
  });

  it("never reorders: a clock that jumps back only starts a new heading", () => {
    const lines = [message(1, "ada", NOON), message(2, "ada", NOON - DAY_MS)];

    expect(shape(lines).flatMap(({ groups }) => groups.flat())).toEqual([1, 2]);
  });

  it("starts a new heading where the reader stopped", () => {
    const lines = [message(1, "ada", NOON), message(2, "ada", NOON)];

    expect(shape(lines, 2)).toEqual([{ date: "2026-03-03", groups: [[1], [2]] }]);
  });

  it("keeps messages without a time where they stand", () => {
    const lines = [message(1, "ada", NOON), message(2, "ada", undefined)];

    expect(shape(lines)).toEqual([{ date: "2026-03-03", groups: [[1, 2]] }]);
  });
});
