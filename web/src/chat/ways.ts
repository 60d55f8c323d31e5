/**
 * The ways to a gateway: a WebSocket, or streams over HTTP where something on the way
 * blocks WebSockets. The SDK tries them in order, until one has opened.
 */

import type { TransportEndpoint } from "centrifuge";

/** A gateway's addresses. */
export interface Addresses {
  /** Of its WebSocket. */
  readonly url: string;
  /** Of its HTTP port, as far as it is known. */
  readonly http?: string;
}

type Way = "websocket" | "http_stream" | "sse";

const WAYS: readonly Way[] = ["websocket", "http_stream", "sse"];

/**
 * What to try, best first. `worked` is what has worked on this page before: where
 * WebSockets do, nothing else is tried, so that a gateway that is gone is noticed at once.
 */
export function waysTo(
  { url, http }: Addresses,
  worked: string | undefined,
): readonly TransportEndpoint[] {
  const socket: TransportEndpoint = { transport: "websocket", endpoint: url };
  if (http === undefined || worked === "websocket") {
    return [socket];
  }
  const ways = WAYS.map((transport) =>
    transport === "websocket"
      ? socket
      : { transport, endpoint: at(http, `/connection/${transport}`) },
  );
  return ways.sort((a, b) => rank(a, worked) - rank(b, worked));
}

/** Where commands go that belong to a stream over HTTP. */
export function emulationAt(http: string): string {
  return at(http, "/emulation");
}

function rank({ transport }: TransportEndpoint, worked: string | undefined): number {
  return transport === worked ? 0 : 1;
}

function at(base: string, path: string): string {
  return new URL(path, base).href;
}
