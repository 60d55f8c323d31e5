/** Messages as people read them: by day, and by who goes on talking. */

import type { Message } from "./entries";

/** Messages of one author in a row, close enough in time to share a heading. */
export interface Group {
  readonly key: string;
  readonly author: string;
  readonly at: number | undefined;
  readonly messages: readonly Message[];
}

export interface Day {
  readonly key: string;
  /** Local date as yyyy-mm-dd, or "" while nobody said when. */
  readonly date: string;
  readonly groups: readonly Group[];
}

/** A longer silence starts a new heading. */
export const SILENCE_MS = 5 * 60 * 1_000;
/**
 * So does every so many entries: in a long speech a heading stays in sight, and a new line
 * redraws little. By offset, so that headings stay where they are when older ones load.
 */
export const GROUP_ENTRIES_MAX = 50;

/**
 * Group messages, in the order given: order is by offset and never by time, so a clock
 * that jumps back only starts a new heading. `breakBefore` is an offset that starts a
 * new group, for the line that marks what is unread.
 */
export function byDay(messages: readonly Message[], breakBefore?: number): Day[] {
  const days: (Omit<Day, "groups"> & { groups: MutableGroup[] })[] = [];
  let previous: Message | undefined;
  for (const message of messages) {
    const date =
      message.at === undefined ? (days.at(-1)?.date ?? "") : dateOf(message.at);
    let day = days.at(-1);
    if (day === undefined || day.date !== date) {
      // A clock that jumps can bring a date twice; the offset tells the two apart.
      day = { key: `${date}-${message.offset}`, date, groups: [] };
      days.push(day);
    }
    const group = day.groups.at(-1);
    if (
      group !== undefined &&
      previous !== undefined &&
      group.author === message.author &&
      stretchOf(previous) === stretchOf(message) &&
      message.offset !== breakBefore &&
      !silentBetween(previous, message)
    ) {
      group.messages.push(message);
    } else {
      day.groups.push({
        key: String(message.offset),
        author: message.author,
        at: message.at,
        messages: [message],
      });
    }
    previous = message;
  }
  return days;
}

interface MutableGroup extends Group {
  readonly messages: Message[];
}

function stretchOf({ offset }: Message): number {
  return Math.floor(offset / GROUP_ENTRIES_MAX);
}

function silentBetween(earlier: Message, later: Message): boolean {
  if (earlier.at === undefined || later.at === undefined) {
    return false;
  }
  return Math.abs(later.at - earlier.at) > SILENCE_MS;
}

export function dateOf(at: number): string {
  const day = new Date(at);
  const two = (value: number) => String(value).padStart(2, "0");
  return `${day.getFullYear()}-${two(day.getMonth() + 1)}-${two(day.getDate())}`;
}
