import { expect, it } from "vitest";
import { emulationAt, waysTo } from "./ways";

const here = { url: "ws://a:8001/connection/websocket", http: "http://a:9001" };

it("tries streams over HTTP behind the socket", () => {
  expect(waysTo(here, undefined)).toEqual([
    { transport: "websocket", endpoint: here.url },
    { transport: "http_stream", endpoint: "http://a:9001/connection/http_stream" },
    { transport: "sse", endpoint: "http://a:9001/connection/sse" },
  ]);
  expect(emulationAt(here.http)).toBe("http://a:9001/emulation");
});

it("tries nothing but the socket where sockets work, or where nothing else is known", () => {
  const socket = [{ transport: "websocket", endpoint: here.url }];

  expect(waysTo(here, "websocket")).toEqual(socket);
  expect(waysTo({ url: here.url }, undefined)).toEqual(socket);
});

it("begins with the stream that has worked before", () => {
  expect(waysTo(here, "sse").map(({ transport }) => transport)).toEqual([
    "sse",
    "websocket",
    "http_stream",
  ]);
});
