import { describe, expect, it } from "vitest";
import { channelOf, roomNamed, userNamed } from "./names";

describe("room names", () => {
  it.each([
    ["lobby", "lobby"],
    ["  #lobby ", "lobby"],
    ["reading club", "reading-club"],
    ["team:web", "team:web"],
  ])("reads %j as %j", (typed, name) => {
    expect(roomNamed(typed)).toEqual({ name });
  });

  it.each(["", "  ", "#", "café", "a#b", "$secret", "x".repeat(300), "tab\u0000"])(
    "says why %j is none",
    (typed) => {
      expect(roomNamed(typed)).toHaveProperty("refusal");
    },
  );

  it("live in the namespace of rooms", () => {
    expect(channelOf("lobby")).toBe("room:lobby");
  });
});

describe("user names", () => {
  it("may be ordinary ones", () => {
    expect(userNamed(" ada.l-99 ")).toEqual({ name: "ada.l-99" });
  });

  it.each(["", "a b", "a,b", "#a", "x".repeat(40)])("say why %j is none", (typed) => {
    expect(userNamed(typed)).toHaveProperty("refusal");
  });
});
