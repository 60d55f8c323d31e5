/** Times in the reader's own language and clock. */

import { dateOf } from "../model/groups";

const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
});
const FULL = new Intl.DateTimeFormat(undefined, {
  dateStyle: "full",
  timeStyle: "medium",
});
const WEEKDAY = new Intl.DateTimeFormat(undefined, {
  weekday: "long",
  day: "numeric",
  month: "long",
});
const LONG_AGO = new Intl.DateTimeFormat(undefined, { dateStyle: "long" });
const SHORT = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const DAY_MS = 24 * 3600 * 1_000;

export const clock = (at: number): string => CLOCK.format(at);
export const full = (at: number): string => FULL.format(at);

/** A day's heading. `date` is local, as yyyy-mm-dd. */
export function dayName(date: string, nowMs: number): string {
  if (date === dateOf(nowMs)) {
    return "Today";
  }
  if (date === dateOf(nowMs - DAY_MS)) {
    return "Yesterday";
  }
  const noon = new Date(`${date}T12:00:00`);
  const sameYear = noon.getFullYear() === new Date(nowMs).getFullYear();
  return (sameYear ? WEEKDAY : LONG_AGO).format(noon);
}

/** When something last happened in a room: the time today, the date before. */
export function recently(at: number, nowMs: number): string {
  return dateOf(at) === dateOf(nowMs) ? CLOCK.format(at) : SHORT.format(at);
}
