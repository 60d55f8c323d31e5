import { describe, expect, it } from "vitest";
import {
  NOBODY_TYPES,
  nextEndMs,
  stillTyping,
  typingEnded,
  typingInWords,
  typingTold,
} from "./typing";

describe("typing", () => {
  it("lasts as long as it was told, and no longer", () => {
    const typing = typingTold(NOBODY_TYPES, "ada", 5_000, 1_000);
    expect(nextEndMs(typing)).toBe(6_000);
    expect(stillTyping(typing, 5_999)).toBe(typing);
    expect(stillTyping(typing, 6_000).size).toBe(0);
  });

  it("is renewed, and ended by zero or a message", () => {
    let typing = typingTold(NOBODY_TYPES, "ada", 5_000, 1_000);
    typing = typingTold(typing, "ada", 5_000, 4_000);
    expect(nextEndMs(typing)).toBe(9_000);
    expect(typingTold(typing, "ada", 0, 4_000).size).toBe(0);
    expect(typingEnded(typing, "ada").size).toBe(0);
    expect(typingEnded(typing, "bob")).toBe(typing);
  });

  it("cannot be told for hours", () => {
    const typing = typingTold(NOBODY_TYPES, "ada", 1e12, 0);
    expect(stillTyping(typing, 60_000).size).toBe(0);
  });

  it("is told in words, without oneself", () => {
    const of = (...users: string[]) =>
      users.reduce((all, user) => typingTold(all, user, 1, 0), NOBODY_TYPES);
    expect(typingInWords(NOBODY_TYPES, "me")).toBe("");
    expect(typingInWords(of("me"), "me")).toBe("");
    expect(typingInWords(of("bob", "me"), "me")).toBe("bob is typing …");
    expect(typingInWords(of("bob", "ada"), "me")).toBe("ada and bob are typing …");
    expect(typingInWords(of("bob", "ada", "cid"), "me")).toBe("3 people are typing …");
  });
});
