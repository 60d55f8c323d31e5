/** The address bar says which room is open, so that rooms can be linked and gone back from. */

import { type ReadonlySignal, signal } from "@preact/signals";
import { roomNamed } from "../model/names";

const ROOM = /^#\/room\/(.+)$/;
const current = signal(read());

window.addEventListener("hashchange", () => {
  current.value = read();
});

/** The room that the address names. */
export const addressed: ReadonlySignal<string | undefined> = current;

export function addressOf(room: string): string {
  return `#/room/${encodeURIComponent(room)}`;
}

export function goTo(room: string | undefined): void {
  window.location.hash = room === undefined ? "#/" : addressOf(room);
}

/** As `goTo`, without a step for the back button. */
export function settleOn(room: string): void {
  window.history.replaceState(null, "", addressOf(room));
  current.value = read();
}

function read(): string | undefined {
  const [, encoded] = window.location.hash.match(ROOM) ?? [];
  if (encoded === undefined) {
    return undefined;
  }
  try {
    const named = roomNamed(decodeURIComponent(encoded));
    return "name" in named ? named.name : undefined;
  } catch {
    return undefined;
  }
}
