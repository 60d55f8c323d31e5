/**
 * Who is in a room, as far as the mesh tells: a list fetched once, then kept by joins and
 * leaves. Of a large room only counts are told, so its list is one page of a moment.
 */

import { isRecord } from "./entries";
import { mayBeAgent } from "./run-events";

export interface Person {
  readonly user: string;
  readonly connections: number;
  /** Gone without a word, and perhaps back in a moment. */
  readonly away: boolean;
  readonly status: string;
  readonly doNotDisturb: boolean;
}

export interface Members {
  /** The list was fetched; before that, joins and leaves say little. */
  readonly known: boolean;
  readonly here: ReadonlyMap<string, Person>;
  /** Who left while this page watched, and when (milliseconds since 1970). */
  readonly gone: ReadonlyMap<string, number>;
  readonly users: number;
  /** Only counts are told; `here` is a page that was right when it was fetched. */
  readonly large: boolean;
}

export const NOBODY: Members = {
  known: false,
  here: new Map(),
  gone: new Map(),
  users: 0,
  large: false,
};

/** Those who left longest ago are forgotten first. */
export const GONE_MAX = 50;

export interface MembersPage {
  readonly people: readonly Person[];
  readonly users: number;
  /** There are more than these. */
  readonly more: boolean;
}

/** Read the answer to `presence.members`; undefined when it is none. */
export function readMembers(answer: unknown): MembersPage | undefined {
  if (!isRecord(answer) || !Array.isArray(answer["members"])) {
    return undefined;
  }
  const listed: unknown[] = answer["members"];
  const found = listed.flatMap((one) => readPerson(one) ?? []);
  // Agents are told of by their own list.
  const people = found.filter(({ user }) => !mayBeAgent(user));
  const agents = found.length - people.length;
  const more = typeof answer["next"] === "string" && answer["next"] !== "";
  const whole = listed.length - agents;
  const counted = countOf(answer["num_users"]);
  return {
    people,
    // Of a whole list the number is known, whatever was counted a moment earlier.
    users: more && counted !== undefined ? Math.max(whole, counted - agents) : whole,
    more,
  };
}

function readPerson(value: unknown): Person | undefined {
  if (!isRecord(value) || typeof value["user"] !== "string" || value["user"] === "") {
    return undefined;
  }
  return {
    user: value["user"],
    connections: countOf(value["connections"]) ?? 1,
    away: value["lost"] === true,
    status: typeof value["status"] === "string" ? value["status"] : "",
    doNotDisturb: value["do_not_disturb"] === true,
  };
}

export function listed(members: Members, page: MembersPage): Members {
  const here = new Map(page.people.map((person) => [person.user, person]));
  const gone = new Map([...members.gone].filter(([user]) => !here.has(user)));
  return { ...members, known: true, here, gone, users: page.users };
}

export function joined(members: Members, user: string): Members {
  if (user === "" || mayBeAgent(user)) {
    return members;
  }
  const before = members.here.get(user);
  const gone = new Map(members.gone);
  gone.delete(user);
  const here = new Map(members.here);
  here.set(
    user,
    before === undefined
      ? { user, connections: 1, away: false, status: "", doNotDisturb: false }
      : { ...before, away: false },
  );
  const users = members.users + (before === undefined ? 1 : 0);
  return { ...members, here, gone, users };
}

export function left(members: Members, user: string, nowMs: number): Members {
  if (!members.here.has(user)) {
    return members;
  }
  const here = new Map(members.here);
  here.delete(user);
  const gone = new Map(members.gone);
  gone.delete(user);
  gone.set(user, nowMs);
  for (const [oldest] of gone) {
    if (gone.size <= GONE_MAX) {
      break;
    }
    gone.delete(oldest);
  }
  return { ...members, here, gone, users: Math.max(here.size, members.users - 1) };
}

/** What presence publishes about people, besides joins and leaves. */
export type PresenceNews =
  | { readonly kind: "counts"; readonly users: number; readonly large: boolean }
  | {
      readonly kind: "status";
      readonly user: string;
      readonly status: string;
      readonly doNotDisturb: boolean;
    }
  | { readonly kind: "typing"; readonly user: string; readonly ttlMs: number };

/** Read an ephemeral publication of presence; undefined when it is something else. */
export function readPresenceNews(data: unknown): PresenceNews | undefined {
  if (!isRecord(data)) {
    return undefined;
  }
  const { type, user } = data;
  if (type === "presence") {
    const users = countOf(data["num_users"]);
    return users === undefined
      ? undefined
      : { kind: "counts", users, large: data["large"] === true };
  }
  if (typeof user !== "string" || user === "") {
    return undefined;
  }
  if (type === "typing") {
    return { kind: "typing", user, ttlMs: countOf(data["ttl_ms"]) ?? 0 };
  }
  if (type === "status") {
    const text = data["text"];
    return {
      kind: "status",
      user,
      status: typeof text === "string" ? text : "",
      doNotDisturb: data["do_not_disturb"] === true,
    };
  }
  return undefined;
}

export function counted(members: Members, users: number, large: boolean): Members {
  return { ...members, users, large };
}

export function statusSet(
  members: Members,
  user: string,
  status: string,
  doNotDisturb: boolean,
): Members {
  const person = members.here.get(user);
  if (person === undefined) {
    return members;
  }
  const here = new Map(members.here);
  here.set(user, { ...person, status, doNotDisturb });
  return { ...members, here };
}

/** By name, oneself first, as a list is read. */
export function inOrder(members: Members, me: string): Person[] {
  return [...members.here.values()].sort(
    (a, b) =>
      Number(b.user === me) - Number(a.user === me) || a.user.localeCompare(b.user),
  );
}

function countOf(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) && value >= 0
    ? value
    : undefined;
}
