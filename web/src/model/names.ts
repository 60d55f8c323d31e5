/** Names of rooms and users: what may be typed, and which channel it means. */

const ROOM_NAMESPACE = "room";
const CHANNEL_CHARS_MAX = 255;

export type Named = { readonly name: string } | { readonly refusal: string };

export function channelOf(room: string): string {
  return `${ROOM_NAMESPACE}:${room}`;
}

/** Turn what somebody typed into a room's name, or say why it cannot be one. */
export function roomNamed(typed: string): Named {
  const name = typed.trim().replace(/^#+/, "").trim().replace(/\s+/g, "-");
  if (name === "") {
    return { refusal: "A room needs a name." };
  }
  if (channelOf(name).length > CHANNEL_CHARS_MAX) {
    return { refusal: "This name is too long." };
  }
  // Channel names are printable ASCII; `#` and `$` have a meaning of their own in them.
  const odd = name.match(/[^!-~]|#|^\$/u);
  if (odd !== null) {
    return { refusal: `A room's name cannot contain “${odd[0]}”.` };
  }
  return { name };
}

const AGENT_PREFIX = "agent:";

/** What a user is called in a sentence; agents are users with a prefix. */
export function nameOf(user: string): string {
  return user.startsWith(AGENT_PREFIX) ? user.slice(AGENT_PREFIX.length) : user;
}

const USER_CHARS_MAX = 32;

/** Check the name somebody wants to be known by while no identity provider decides. */
export function userNamed(typed: string): Named {
  const name = typed.trim();
  if (name === "") {
    return { refusal: "Tell the others your name." };
  }
  if (name.length > USER_CHARS_MAX) {
    return { refusal: `At most ${USER_CHARS_MAX} characters, please.` };
  }
  // Each user has a channel of their own, so the same alphabet holds as for channels.
  if (!/^[\w.-]+$/.test(name)) {
    return { refusal: "Letters, digits, “.”, “_” and “-”, please." };
  }
  return { name };
}
