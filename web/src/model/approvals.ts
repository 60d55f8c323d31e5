/** Who may answer an approval. The server decides; this says so before one tries. */

import type { Approval } from "./runs";

/** Each includes those behind it. */
const ROLES = ["owner", "moderator", "member", "guest"];

export function mayAnswer(approval: Approval, me: string, role: string): boolean {
  const { roles, requester } = approval.eligible;
  if (me !== "" && requester === me) {
    return true;
  }
  const mine = ROLES.indexOf(role);
  return mine >= 0 && roles.some((each) => ROLES.indexOf(each) >= mine);
}

/** Who is waited for, as one says it. */
export function eligibleInWords(approval: Approval): string {
  const { roles, requester } = approval.eligible;
  const people = [
    ...(requester === "" ? [] : [requester]),
    ...roles.map((role) => `a room's ${role}`),
  ];
  return people.length === 0 ? "nobody" : people.join(" or ");
}

/** Why what somebody typed cannot be arguments; undefined when it can. */
export function argumentsRefused(typed: string): string | undefined {
  try {
    const value: unknown = JSON.parse(typed);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? undefined
      : "Arguments are one JSON object.";
  } catch (error) {
    return error instanceof Error ? error.message : "This is no JSON.";
  }
}

/** "1:30" until the deadline; "0:00" from then on. */
export function countdown(deadlineMs: number, nowMs: number): string {
  const seconds = Math.max(0, Math.ceil((deadlineMs - nowMs) / 1_000));
  const two = (value: number) => String(value).padStart(2, "0");
  const hours = Math.floor(seconds / 3_600);
  const minutes = Math.floor(seconds / 60) % 60;
  return hours > 0
    ? `${hours}:${two(minutes)}:${two(seconds % 60)}`
    : `${minutes}:${two(seconds % 60)}`;
}
