/**
 * One connection to one gateway, over the official SDK, from its first try to its end.
 *
 * The SDK can reconnect by itself, to the address it was given. This page moves between
 * gateways and tells its reader when the next try comes, so a link that ends stays ended
 * and `Connection` makes the next one; subscriptions resume from the positions that the
 * timelines keep. Waiting for replies, pings, tokens and resubscribing stay the SDK's.
 */

import {
  Centrifuge,
  type PublicationContext,
  type Subscription,
  UnauthorizedError,
} from "centrifuge";
import { isRecord, type Publication } from "../model/entries";
import type { Refusal } from "../model/outbox";
import { isFinal } from "../model/reconnect";
import { type Addresses, emulationAt, waysTo } from "./ways";

/** How a link ended, or failed to begin. */
export interface LinkEnding {
  readonly code: number;
  readonly reason: string;
  readonly wasConnected: boolean;
  /** The server does not want this client back as it is. */
  readonly final: boolean;
}

export interface LinkHandlers {
  /** Connected; the gateway's own name, where it tells, and the way that worked. */
  onConnected(gateway: string | undefined, way: string): void;
  /** Called once, and last. */
  onEnded(ending: LinkEnding): void;
}

export interface ChannelHandlers {
  onSubscribed(at: ChannelPosition): void;
  onPublication(publication: Publication): void;
  /** Something that has no place in the log: typing, counts, what agents do. */
  onEphemeral(ephemeral: Ephemeral): void;
  /** Somebody has come, or is gone; by name, as the mesh announces them. */
  onJoin(user: string): void;
  onLeave(user: string): void;
  /** Interrupted: the SDK is subscribing again, from where it was. */
  onInterrupted(): void;
  /** It did not work, and is tried again. */
  onTrouble(reason: string): void;
  /** Not, and not to be tried again. */
  onRefused(reason: string, code: number): void;
}

/** Where a channel stood when the subscription began. */
export interface ChannelPosition {
  readonly epoch: string | undefined;
  readonly offset: number;
  /** Everything after the position asked for follows, so `offset` is that position. */
  readonly recovered: boolean;
}

/** An ephemeral publication as it comes off the wire. */
export interface Ephemeral {
  readonly data: unknown;
  /** Undefined when the mesh itself, or a backend, published it. */
  readonly user: string | undefined;
}

export interface HistoryPage {
  /** Oldest first, whichever way they were asked for. */
  readonly publications: readonly Publication[];
  readonly epoch: string;
  readonly top: number;
}

export type HistoryRequest =
  | { readonly ask: "newest"; readonly limit: number }
  | {
      readonly ask: "after" | "before";
      readonly limit: number;
      readonly offset: number;
    };

export interface Tokens {
  /** A token believed good; undefined when one has to be fetched first. */
  readonly kept: string | undefined;
  /** Fetch a new one; undefined when only a person can bring one. */
  fetch(): Promise<string | undefined>;
}

/** From opening the socket to the connect reply; each other way adds a reply's time. */
const CONNECT_WITHIN_MS = 8_000;
/** The SDK's own limit for every reply. */
const REPLY_WITHIN_MS = 5_000;
/** How long after the promised ping the socket counts as dead. */
const PING_GRACE_MS = 5_000;

const CODE_CONNECT_TIMEOUT = 1;
const CODE_HANDLED_BY_SDK = 109;

/** Never fires: going offline and coming back are `Connection`'s to judge. */
const SILENT = new EventTarget();

export class Link {
  private readonly sdk: Centrifuge;
  private connected = false;
  private ended = false;
  private readonly deadline: ReturnType<typeof setTimeout>;

  constructor(
    gateway: Addresses,
    worked: string | undefined,
    tokens: Tokens,
    private readonly handlers: LinkHandlers,
  ) {
    const ways = waysTo(gateway, worked);
    let untried = ways.length;
    this.sdk = new Centrifuge([...ways], {
      ...(gateway.http === undefined
        ? {}
        : { emulationEndpoint: emulationAt(gateway.http) }),
      token: tokens.kept ?? "",
      getToken: async () => {
        const token = await tokens.fetch();
        if (token === undefined) {
          throw new UnauthorizedError("signed out");
        }
        return token;
      },
      timeout: REPLY_WITHIN_MS,
      maxServerPingDelay: PING_GRACE_MS,
      networkEventTarget: SILENT,
      version: "chatmesh-web",
    });
    keepTimes(this.sdk);
    this.sdk.on("connected", ({ data, transport }) => {
      clearTimeout(this.deadline);
      this.connected = true;
      const gateway = isRecord(data) ? data["gateway"] : undefined;
      handlers.onConnected(
        typeof gateway === "string" ? gateway : undefined,
        transport,
      );
    });
    this.sdk.on("connecting", ({ code, reason }) => {
      if (this.connected) {
        this.end(code, reason);
      }
    });
    this.sdk.on("disconnected", ({ code, reason }) => this.end(code, reason, true));
    this.sdk.on("error", ({ type, error }) => {
      if (type === "transport" && !this.connected) {
        untried -= 1;
        if (untried > 0) {
          return; // The SDK goes on to the next way by itself.
        }
      }
      // While connected, an error is about a refresh, which the SDK tries again.
      if (!this.connected && error.code !== CODE_HANDLED_BY_SDK) {
        this.end(error.code, error.message);
      }
    });
    this.deadline = setTimeout(
      () => this.end(CODE_CONNECT_TIMEOUT, "no answer"),
      CONNECT_WITHIN_MS + (untried - 1) * REPLY_WITHIN_MS,
    );
    this.sdk.connect();
  }

  /** End it from this side; `onEnded` is not called. */
  close(): void {
    this.ended = true;
    clearTimeout(this.deadline);
    this.sdk.disconnect();
  }

  /** Hear a channel, from `since` on or from now. Returns how to stop. */
  subscribe(
    channel: string,
    since: { offset: number; epoch: string } | undefined,
    handlers: ChannelHandlers,
  ): () => void {
    const subscription: Subscription = this.sdk.newSubscription(channel, {
      ...(since === undefined ? {} : { since }),
      recoverable: true,
      positioned: true,
      joinLeave: true,
    });
    subscription.on("subscribed", ({ streamPosition, recovered }) =>
      handlers.onSubscribed({
        epoch: streamPosition?.epoch,
        offset: streamPosition?.offset ?? 0,
        recovered,
      }),
    );
    subscription.on("publication", (context) => {
      const publication = durable(context);
      if (publication !== undefined) {
        handlers.onPublication(publication);
      } else {
        handlers.onEphemeral({ data: context.data, user: context.info?.user });
      }
    });
    subscription.on("join", ({ info }) => handlers.onJoin(info.user));
    subscription.on("leave", ({ info }) => handlers.onLeave(info.user));
    subscription.on("subscribing", () => handlers.onInterrupted());
    subscription.on("error", ({ error }) => handlers.onTrouble(error.message));
    subscription.on("unsubscribed", ({ code, reason }) => {
      if (code !== 0) {
        handlers.onRefused(reason, code);
      }
    });
    subscription.subscribe();
    return () => {
      subscription.unsubscribe();
      this.sdk.removeSubscription(subscription);
    };
  }

  /** A page of a channel's log. Rejects with a `Refusal`. */
  async history(
    channel: string,
    epoch: string | undefined,
    request: HistoryRequest,
  ): Promise<HistoryPage> {
    const backwards = request.ask !== "after";
    const since =
      request.ask === "newest"
        ? {}
        : { since: { offset: request.offset, epoch: epoch ?? "" } };
    const page = await this.sdk
      .history(channel, { limit: request.limit, reverse: backwards, ...since })
      .catch(rejectWithRefusal);
    const publications = page.publications.flatMap((context) => durable(context) ?? []);
    return {
      publications: backwards ? publications.reverse() : publications,
      epoch: page.epoch,
      top: page.offset,
    };
  }

  /** Call a method of the mesh. Rejects with a `Refusal`. */
  async call(method: string, data: unknown): Promise<unknown> {
    const reply = await this.sdk.rpc(method, data).catch(rejectWithRefusal);
    return reply.data;
  }

  /** The socket still counts as open but does not answer: treat it as gone. */
  giveUp(reason: string): void {
    this.end(CODE_CONNECT_TIMEOUT, reason);
  }

  private end(code: number, reason: string, byServer = false): void {
    if (this.ended) {
      return;
    }
    const ending: LinkEnding = {
      code,
      reason,
      wasConnected: this.connected,
      // The SDK also disconnects for good on refused connects and lost authorisation.
      final: byServer || isFinal(code),
    };
    this.close();
    this.handlers.onEnded(ending);
  }
}

/** Whether an error reply is worth a second try. */
export function isTemporary(refusal: Refusal): boolean {
  return refusal.temporary || refusal.code < 100;
}

function rejectWithRefusal(error: unknown): never {
  const known = isRecord(error) ? error : {};
  const refusal: Refusal = {
    code: typeof known["code"] === "number" ? known["code"] : 0,
    message: typeof known["message"] === "string" ? known["message"] : String(error),
    temporary: known["temporary"] === true,
  };
  throw refusal;
}

/** Undefined for an ephemeral one, which has no offset and no place in a log. */
function durable(
  context: PublicationContext & { time?: unknown },
): Publication | undefined {
  if (context.offset === undefined) {
    return undefined;
  }
  return {
    offset: context.offset,
    data: context.data,
    user: context.info?.user,
    trace: context.tags?.["trace"],
    time: typeof context.time === "number" ? context.time : undefined,
  };
}

/**
 * Let publications keep the commit time that the server sends with them.
 *
 * The protocol has the field and SDK 5.8 drops it on the way to the application, so this
 * wraps the one function that builds the context. Without it, messages would still be
 * there, only without their time; the SDK's version is pinned, and a test watches this.
 */
export function keepTimes(sdk: Centrifuge): void {
  const inner = sdk as unknown as {
    _getPublicationContext?: (channel: string, raw: unknown) => Record<string, unknown>;
  };
  const build = inner._getPublicationContext;
  if (typeof build !== "function") {
    return;
  }
  inner._getPublicationContext = (channel, raw) => {
    const context = build.call(sdk, channel, raw);
    return isRecord(raw) && "time" in raw ? { ...context, time: raw["time"] } : context;
  };
}
