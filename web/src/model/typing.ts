/** Who types: a lease per user, so that nobody is left typing for ever. */

export type Typing = ReadonlyMap<string, number>;

export const NOBODY_TYPES: Typing = new Map();

/** More than these are told as "several people". */
export const NAMED_MAX = 2;
/** While one goes on typing, say so this often; the lease is 5 s. */
export const RENEW_MS = 3_000;
/** A lease can hardly be longer than this, whatever a publication says. */
const LEASE_MAX_MS = 30_000;

/** Typing was told for the next `ttlMs`; 0 ends it. */
export function typingTold(
  typing: Typing,
  user: string,
  ttlMs: number,
  nowMs: number,
): Typing {
  if (ttlMs <= 0) {
    return typingEnded(typing, user);
  }
  return new Map(typing).set(user, nowMs + Math.min(ttlMs, LEASE_MAX_MS));
}

/** A message says what was typed. */
export function typingEnded(typing: Typing, user: string): Typing {
  if (!typing.has(user)) {
    return typing;
  }
  const rest = new Map(typing);
  rest.delete(user);
  return rest;
}

/** Without those whose lease is over. */
export function stillTyping(typing: Typing, nowMs: number): Typing {
  const rest = [...typing].filter(([, untilMs]) => untilMs > nowMs);
  return rest.length === typing.size ? typing : new Map(rest);
}

/** When the next lease ends. */
export function nextEndMs(typing: Typing): number | undefined {
  return typing.size === 0 ? undefined : Math.min(...typing.values());
}

/** "Ada is typing …", without oneself; empty when nobody is. */
export function typingInWords(typing: Typing, me: string): string {
  const names = [...typing.keys()].filter((user) => user !== me).sort();
  const [first, second] = names;
  if (first === undefined) {
    return "";
  }
  if (second === undefined) {
    return `${first} is typing …`;
  }
  return names.length > NAMED_MAX
    ? `${names.length} people are typing …`
    : `${first} and ${second} are typing …`;
}
