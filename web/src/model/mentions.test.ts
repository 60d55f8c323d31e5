import { describe, expect, it } from "vitest";
import { completed, type Mentionable, mentionAt, suggested } from "./mentions";

function somebody(name: string, agent = false): Mentionable {
  return { name, title: name, picture: "", agent };
}

describe("a mention", () => {
  it("is where the cursor stands behind an @", () => {
    expect(mentionAt("@", 1)).toEqual({ from: 0, typed: "" });
    expect(mentionAt("hello @he", 9)).toEqual({ from: 6, typed: "he" });
    expect(mentionAt("hello @helper and", 9)).toEqual({ from: 6, typed: "he" });
  });

  it("is none elsewhere", () => {
    for (const text of ["", "hello", "ada@example", "@helper "]) {
      expect(mentionAt(text, text.length)).toBeUndefined();
    }
  });

  it("means agents first, and those that begin so", () => {
    const everybody = [
      somebody("ada"),
      somebody("amanda"),
      somebody("adder", true),
      somebody("bob"),
    ];
    const names = suggested({ from: 0, typed: "ad" }, everybody).map(
      ({ name }) => name,
    );
    expect(names).toEqual(["adder", "ada"]);
    expect(suggested({ from: 0, typed: "an" }, everybody)[0]?.name).toBe("amanda");
    expect(suggested({ from: 0, typed: "zz" }, everybody)).toEqual([]);
  });

  it("is written out, with one space behind it", () => {
    const mention = { from: 3, typed: "he" };
    expect(completed("hi @he", mention, "helper")).toEqual({
      text: "hi @helper ",
      cursor: 11,
    });
    expect(completed("hi @he there", mention, "helper").text).toBe("hi @helper there");
  });
});
