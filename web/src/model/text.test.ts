import { describe, expect, it } from "vitest";
import { pieces } from "./text";

describe("text", () => {
  it("leaves markup as the characters it is", () => {
    const text = '<img src=x onerror=alert(1)> & <b>"bold"</b>';

    expect(pieces(text)).toEqual([{ kind: "text", text }]);
  });

  it("keeps every character, whatever the pieces are", () => {
    const text = "see https://a.example/x, `code` and\n\nhttp://b.example/(y).";

    const back = pieces(text).map((piece) =>
      piece.kind === "code" ? `\`${piece.text}\`` : piece.text,
    );

    expect(back.join("")).toBe(text);
  });
});

describe("links", () => {
  it.each([
    ["https://a.example.", "https://a.example"],
    ["(https://a.example/b)", "https://a.example/b"],
    ["https://a.example/wiki/A_(b)", "https://a.example/wiki/A_(b)"],
    ["https://a.example/?q=1&r=2!", "https://a.example/?q=1&r=2"],
  ])("in %s end where the address ends", (text, address) => {
    const link = pieces(text).find((piece) => piece.kind === "link");

    expect(link?.text).toBe(address);
  });

  it.each([
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "file:///etc/passwd",
    "https://",
    "https://paypal.example@evil.example/",
  ])("are not made of %s", (text) => {
    expect(pieces(text).some((piece) => piece.kind === "link")).toBe(false);
  });

  it("are not made inside code", () => {
    expect(pieces("`https://a.example`")).toEqual([
      { kind: "code", text: "https://a.example" },
    ]);
  });
});

describe("code blocks", () => {
  it("lose their fence and the name of their language", () => {
    expect(pieces("so:\n```sh\nmake run\n```")).toEqual([
      { kind: "text", text: "so:\n" },
      { kind: "block", text: "make run" },
    ]);
  });

  it("need an end", () => {
    expect(pieces("```never closed")).toEqual([
      { kind: "text", text: "```never closed" },
    ]);
  });
});
