/** A user's sign: initials on one of a few colours, the same everywhere. */

import { nameOf } from "../model/names";

const HUES = 8;

interface Props {
  readonly user: string;
  readonly small?: boolean;
  /** An agent's sign: an emoji, or a letter or two. */
  readonly picture?: string;
}

export function Avatar({ user, small = false, picture = "" }: Props) {
  const look = picture === "" ? `hue-${hueOf(user)}` : "picture";
  return (
    <span class={`avatar ${look}${small ? " small" : ""}`} aria-hidden="true">
      {picture === "" ? initials(nameOf(user)) : picture}
    </span>
  );
}

/** FNV-1a and a final stir, because names often differ in one letter only. */
export function hueOf(user: string): number {
  let hash = 2166136261;
  for (const char of user) {
    hash = Math.imul(hash ^ (char.codePointAt(0) ?? 0), 16777619);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 2246822507);
  return ((hash ^ (hash >>> 13)) >>> 0) % HUES;
}

function initials(user: string): string {
  const words = user.split(/[\s._-]+/).filter((word) => word !== "");
  const [first = "?", second] = words;
  const letters = second === undefined ? [...first].slice(0, 1) : [first[0], second[0]];
  return letters.join("").toUpperCase();
}
