import { expect, it } from "vitest";
import { asSeenFrom, subjectOf } from "./login";

function token(claims: unknown): string {
  const part = (value: unknown) =>
    btoa(String.fromCharCode(...new TextEncoder().encode(JSON.stringify(value))))
      .replaceAll("+", "-")
      .replaceAll("/", "_")
      .replaceAll("=", "");
  return `${part({ alg: "HS256" })}.${part(claims)}.signature`;
}

it("greets the owner of a token by name", () => {
  expect(subjectOf(token({ sub: "ada" }))).toBe("ada");
  expect(subjectOf(token({ sub: "Zoë Ünal" }))).toBe("Zoë Ünal");
});

it.each(["", "abc", "a.b", "a.!.c", token({}), token({ sub: 7 }), token([])])(
  "does not take %j for a token",
  (text) => {
    expect(subjectOf(text)).toBeUndefined();
  },
);

it("reaches gateways of the same machine by the name the page was opened with", () => {
  const address = "ws://127.0.0.1:8002/connection/websocket";
  const elsewhere = "wss://chat.example/connection/websocket";

  expect(asSeenFrom({ hostname: "localhost" }, address)).toBe(
    "ws://localhost:8002/connection/websocket",
  );
  expect(asSeenFrom({ hostname: "localhost" }, elsewhere)).toBe(elsewhere);
});
