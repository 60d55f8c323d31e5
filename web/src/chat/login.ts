/** Finding out where this page is and who uses it: development login, or a token. */

import { isRecord } from "../model/entries";
import type { Gateway } from "./connection";
import type { Tokens } from "./link";

/** What the gateway that served this page says about itself. */
export interface Installation {
  /** A name is enough to sign in. */
  readonly development: boolean;
  readonly gateways: readonly Gateway[];
  /** The gateway to begin with. */
  readonly gateway: string;
}

export class LoginRefused extends Error {}

const CONFIG_PATH = "/dev/config";
const TOKEN_PATH = "/dev/token";
const SOCKET_PATH = "/connection/websocket";
const ANSWER_WITHIN_MS = 8_000;
const HTTP_NOT_FOUND = 404;

/** Ask where we are. Rejects when nobody answers. */
export async function findOut(): Promise<Installation> {
  const response = await fetch(CONFIG_PATH, {
    headers: { accept: "application/json" },
    signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
  });
  if (response.status === HTTP_NOT_FOUND) {
    return alone();
  }
  if (!response.ok) {
    throw new Error(`The gateway answered ${response.status}.`);
  }
  return readInstallation(await response.json()) ?? alone();
}

/** Outside development, a page knows the gateway that served it and no other. */
function alone(): Installation {
  const here = ownGateway(window.location.host);
  return { development: false, gateways: [here], gateway: here.name };
}

function ownGateway(name: string): Gateway {
  const { protocol, host, origin } = window.location;
  return {
    name,
    url: `${protocol === "https:" ? "wss:" : "ws:"}//${host}${SOCKET_PATH}`,
    // Whatever stands before a gateway shows all of it under one name.
    http: origin,
  };
}

function readInstallation(value: unknown): Installation | undefined {
  if (!isRecord(value) || value["development"] !== true) {
    return undefined;
  }
  const listed: unknown[] = Array.isArray(value["gateways"]) ? value["gateways"] : [];
  const gateways = listed.flatMap((gateway): Gateway[] =>
    isRecord(gateway) &&
    typeof gateway["name"] === "string" &&
    typeof gateway["url"] === "string"
      ? [
          {
            name: gateway["name"],
            url: asSeenFrom(window.location, gateway["url"]),
            ...(typeof gateway["http"] === "string" && gateway["http"] !== ""
              ? { http: asSeenFrom(window.location, gateway["http"]) }
              : {}),
          },
        ]
      : [],
  );
  const name = value["gateway"];
  const gateway = typeof name === "string" ? name : window.location.host;
  return {
    development: true,
    gateways: gateways.some((known) => known.name === gateway)
      ? gateways
      : [ownGateway(gateway), ...gateways],
    gateway,
  };
}

const LOOPBACK = ["127.0.0.1", "localhost", "[::1]"];

/**
 * A gateway's address as this page reaches it. Gateways on one machine call each other by
 * a loopback address; a browser that used another name for the machine goes on using it.
 */
export function asSeenFrom(
  page: { readonly hostname: string },
  address: string,
): string {
  if (!URL.canParse(address)) {
    return address;
  }
  const url = new URL(address);
  if (LOOPBACK.includes(url.hostname)) {
    url.hostname = page.hostname;
  }
  return url.href;
}

/** Get a token for a name, in development. Throws `LoginRefused` when there is none. */
export async function developmentToken(user: string): Promise<string> {
  const response = await fetch(`${TOKEN_PATH}?${new URLSearchParams({ user })}`, {
    method: "POST",
    signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
  });
  if (response.status >= 400 && response.status < 500) {
    throw new LoginRefused(`The gateway refused this name (${response.status}).`);
  }
  if (!response.ok) {
    throw new Error(`The gateway answered ${response.status}.`);
  }
  const answer: unknown = await response.json();
  if (!isRecord(answer) || typeof answer["token"] !== "string") {
    throw new Error("The gateway answered without a token.");
  }
  return answer["token"];
}

/** Tokens of one signed-in user, kept for the next connection. */
export class TokenKeeper implements Tokens {
  constructor(
    private readonly user: string,
    private readonly development: boolean,
    private token: string | undefined,
    private readonly changed: (token: string | undefined) => void,
  ) {}

  get kept(): string | undefined {
    return this.token;
  }

  async fetch(): Promise<string | undefined> {
    if (!this.development) {
      return undefined;
    }
    this.token = await developmentToken(this.user);
    this.changed(this.token);
    return this.token;
  }

  forget(): void {
    this.token = undefined;
    this.changed(undefined);
  }
}

/**
 * Whom a pasted token names. It is only read to greet its owner: whether it is genuine is
 * for the gateway to say. Undefined when it is no token at all.
 */
export function subjectOf(token: string): string | undefined {
  const subject = claimsOf(token)?.["sub"];
  return typeof subject === "string" && subject !== "" ? subject : undefined;
}

/** Which role a token gives its owner in rooms; the gateway reads the same claims. */
export function roleOf(token: string): string {
  const claims = claimsOf(token);
  for (const place of [claims?.["meta"], claims?.["info"]]) {
    if (isRecord(place) && typeof place["role"] === "string") {
      return place["role"];
    }
  }
  return "member";
}

function claimsOf(token: string): Record<string, unknown> | undefined {
  const [, payload, signature] = token.split(".");
  if (payload === undefined || signature === undefined) {
    return undefined;
  }
  try {
    const bytes = Uint8Array.from(
      atob(payload.replaceAll("-", "+").replaceAll("_", "/")),
      (char) => char.charCodeAt(0),
    );
    const claims: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return isRecord(claims) ? claims : undefined;
  } catch {
    return undefined;
  }
}
