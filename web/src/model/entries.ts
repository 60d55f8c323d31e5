/** What stands in a channel's log, as this page reads it. */

import {
  AGENT_PREFIX,
  type AgentFace,
  type AnswerRun,
  mayBeAgent,
  readAnswerRun,
  readFace,
} from "./run-events";

/** A message somebody wrote. */
export interface Message {
  readonly kind: "message";
  readonly offset: number;
  /** The author's own id of the message, unique in its room for ever. */
  readonly id: string;
  readonly author: string;
  readonly text: string;
  /** Milliseconds since 1970 by the mesh's clock; absent when nobody said. */
  readonly at: number | undefined;
  /** Id of the trace that the message's way through the mesh left, where one was taken. */
  readonly trace?: string | undefined;
  /** An agent wrote it. */
  readonly face?: AgentFace | undefined;
  /** It is the answer of a run, and this is how it came about. */
  readonly run?: AnswerRun | undefined;
}

/**
 * An entry of a type this page does not know. It takes its place in the order, so that
 * counting offsets still proves completeness, and shows nothing.
 */
export interface Other {
  readonly kind: "other";
  readonly offset: number;
}

export type Entry = Message | Other;

/** A durable publication as it comes off the wire, before anybody trusts its shape. */
export interface Publication {
  readonly offset: number;
  readonly data: unknown;
  readonly user: string | undefined;
  readonly time: number | undefined;
  readonly trace?: string | undefined;
}

/** Read one publication. Never fails: what is not a message is an `Other`. */
export function readEntry(publication: Publication): Entry {
  const { offset, data } = publication;
  if (!isRecord(data) || data["type"] !== "message") {
    return { kind: "other", offset };
  }
  const { id, text } = data;
  if (typeof id !== "string" || id === "" || typeof text !== "string") {
    return { kind: "other", offset };
  }
  // Anybody can write down that they are an agent; only agents have such a user.
  const byAgent = mayBeAgent(publication.user);
  const face = byAgent ? readFace(data["agent"]) : undefined;
  const run = byAgent ? readAnswerRun(data["run"]) : undefined;
  return {
    kind: "message",
    offset,
    id,
    author:
      publication.user ?? (face === undefined ? "" : `${AGENT_PREFIX}${face.name}`),
    text,
    ...(face === undefined ? {} : { face }),
    ...(run === undefined ? {} : { run }),
    at: readTime(data["at"]) ?? readTime(publication.time),
    ...(publication.trace === undefined ? {} : { trace: publication.trace }),
  };
}

/** The place a message got, as the reply to `message.send` tells it. */
export interface Receipt {
  readonly offset: number;
  readonly at: number | undefined;
}

/** Read the reply to `message.send`; undefined when it is not one. */
export function readReceipt(data: unknown): Receipt | undefined {
  if (!isRecord(data)) {
    return undefined;
  }
  const offset = data["offset"];
  if (typeof offset !== "number" || !Number.isSafeInteger(offset) || offset < 1) {
    return undefined;
  }
  return { offset, at: readTime(data["at"]) };
}

function readTime(value: unknown): number | undefined {
  if (typeof value === "number" && Number.isFinite(value) && value > 0) {
    return value;
  }
  if (typeof value === "string") {
    const parsed = Date.parse(value);
    return Number.isNaN(parsed) ? undefined : parsed;
  }
  return undefined;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
