/**
 * One room's messages as this page knows them: an unbroken stretch of the room's log.
 *
 * Offsets in a log are dense (1, 2, 3 …), so completeness is arithmetic. `entries` never
 * has a hole; what arrives from beyond one waits in `ahead`, unseen, until history has
 * filled it. Nothing here does I/O: `missing` says what to ask history for, and whoever
 * asks hands the page back in.
 */

import type { Entry, Message } from "./entries";

export interface Timeline {
  /** The life of the log that the offsets count in; undefined before the first word. */
  readonly epoch: string | undefined;
  /** The offset just before the first entry here. */
  readonly base: number;
  /** Offsets base + 1, base + 2, … without a gap. */
  readonly entries: readonly Entry[];
  /** Live entries from beyond a hole, ascending, not shown yet. */
  readonly ahead: readonly Entry[];
  /** The highest offset known to be committed. */
  readonly top: number;
  /** Something was loaded: an empty `entries` means an empty room, not ignorance. */
  readonly loaded: boolean;
  /** There is nothing older to ask for. */
  readonly complete: boolean;
}

export const UNKNOWN: Timeline = {
  epoch: undefined,
  base: 0,
  entries: [],
  ahead: [],
  top: 0,
  loaded: false,
  complete: false,
};

/**
 * How far a hole may reach and still be filled entry by entry. Behind a longer one the
 * page starts over at the newest entries, and the rest is older history, one scroll away.
 */
export const HOLE_ENTRIES_MAX = 2_000;

/** A trimmed timeline keeps this many entries, and is trimmed above twice as many. */
export const KEPT_ENTRIES = 1_000;

/** What to ask history for next: the newest page, or the entries after an offset. */
export type Missing =
  | { readonly ask: "newest" }
  | { readonly ask: "after"; readonly offset: number };

/** The offset up to which everything from `base` on is here. */
export function lastOf(timeline: Timeline): number {
  return timeline.base + timeline.entries.length;
}

/** Where to resume from: the last entry before any hole. Undefined: from the newest. */
export function positionOf(
  timeline: Timeline,
): { offset: number; epoch: string } | undefined {
  return timeline.loaded && timeline.epoch !== undefined
    ? { offset: lastOf(timeline), epoch: timeline.epoch }
    : undefined;
}

export function missing(timeline: Timeline): Missing | undefined {
  if (!timeline.loaded) {
    return { ask: "newest" };
  }
  const last = lastOf(timeline);
  if (timeline.top <= last) {
    return undefined;
  }
  return timeline.top - last > HOLE_ENTRIES_MAX
    ? { ask: "newest" }
    : { ask: "after", offset: last };
}

/** The channel says where its log stands. Another epoch is another log: start over. */
export function standsAt(timeline: Timeline, epoch: string, top: number): Timeline {
  if (timeline.epoch !== undefined && timeline.epoch !== epoch) {
    return { ...UNKNOWN, epoch, top };
  }
  return { ...timeline, epoch, top: Math.max(timeline.top, top) };
}

/** One live or recovered entry. A repeat changes nothing. */
export function heard(timeline: Timeline, entry: Entry): Timeline {
  return heardAll(timeline, [entry]);
}

/** Live or recovered entries, in whatever order they came. */
export function heardAll(timeline: Timeline, arrived: readonly Entry[]): Timeline {
  const last = timeline.loaded ? lastOf(timeline) : 0;
  const news = arrived.filter((entry) => entry.offset > last);
  const ahead = inOrder([...timeline.ahead, ...news]);
  const newest = ahead.at(-1);
  if (newest === undefined || ahead.length === timeline.ahead.length) {
    return timeline;
  }
  return absorb({ ...timeline, top: Math.max(timeline.top, newest.offset), ahead });
}

/**
 * The newest page of the log, oldest first. It replaces what was here unless the two
 * touch, because a stretch with a hole in it is worse than a shorter one.
 */
export function newestPage(
  timeline: Timeline,
  page: readonly Entry[],
  top: number,
): Timeline {
  const known = { ...timeline, top: Math.max(timeline.top, top), loaded: true };
  const first = page[0]?.offset;
  if (first === undefined) {
    // An empty log, or one whose retention has removed everything so far.
    return absorb({ ...known, base: top, entries: [], complete: true });
  }
  const touches =
    timeline.loaded && timeline.base < first && first <= lastOf(timeline) + 1;
  if (touches) {
    return absorb(extended(known, page));
  }
  return absorb({ ...known, base: first - 1, entries: page, complete: first === 1 });
}

/** A page of entries after the last one known, oldest first. */
export function pageAfter(
  timeline: Timeline,
  page: readonly Entry[],
  top: number,
): Timeline {
  const known = { ...timeline, top: Math.max(timeline.top, top) };
  const first = page[0]?.offset;
  if (first === undefined) {
    // Retention has removed what was missing. The newest page is what everybody else
    // sees now, so that is what to ask for.
    return lastOf(known) < known.top ? { ...known, loaded: false } : known;
  }
  if (first > lastOf(timeline) + 1) {
    // The entries in between are gone for everyone: what stays is the retained part.
    return absorb({ ...known, base: first - 1, entries: page, complete: true });
  }
  return absorb(extended(known, page));
}

/** A page of entries before the first one known, handed in oldest first. */
export function pageBefore(timeline: Timeline, page: readonly Entry[]): Timeline {
  const older = page.filter((entry) => entry.offset <= timeline.base);
  const first = older[0]?.offset;
  if (first === undefined || older.at(-1)?.offset !== timeline.base) {
    // Nothing, or nothing that touches because retention moved in between: showing it
    // would make a hole.
    return { ...timeline, complete: true };
  }
  return {
    ...timeline,
    base: first - 1,
    entries: [...older, ...timeline.entries],
    complete: first === 1,
  };
}

/** Let go of the oldest entries of a long timeline; scrolling back fetches them again. */
export function trimmed(timeline: Timeline): Timeline {
  const surplus = timeline.entries.length - KEPT_ENTRIES;
  if (surplus <= KEPT_ENTRIES) {
    return timeline;
  }
  return {
    ...timeline,
    base: timeline.base + surplus,
    entries: timeline.entries.slice(surplus),
    complete: false,
  };
}

export function messagesOf(timeline: Timeline): Message[] {
  return timeline.entries.filter((entry): entry is Message => entry.kind === "message");
}

export function newestMessage(timeline: Timeline): Message | undefined {
  return timeline.entries.findLast(
    (entry): entry is Message => entry.kind === "message",
  );
}

/** Messages of others after `read`, counting those that are known only by number. */
export function unreadAfter(timeline: Timeline, read: number, me: string): number {
  if (!timeline.loaded) {
    return 0;
  }
  const before = Math.max(0, timeline.base - read);
  const beyond = Math.max(0, timeline.top - lastOf(timeline));
  const within = timeline.entries
    .slice(Math.max(0, read - timeline.base))
    .filter((entry) => entry.kind === "message" && entry.author !== me).length;
  return before + within + beyond;
}

/** Move what waits in `ahead` into line, as far as it fits now. */
function absorb(timeline: Timeline): Timeline {
  if (!timeline.loaded || timeline.ahead.length === 0) {
    return timeline;
  }
  const entries = [...timeline.entries];
  let used = 0;
  for (const entry of timeline.ahead) {
    const next = timeline.base + entries.length + 1;
    if (entry.offset > next) {
      break;
    }
    if (entry.offset === next) {
      entries.push(entry);
    }
    used++;
  }
  return { ...timeline, entries, ahead: timeline.ahead.slice(used) };
}

/** The timeline with what a page that overlaps or touches it has to add. */
function extended(timeline: Timeline, page: readonly Entry[]): Timeline {
  const last = lastOf(timeline);
  const added = page.filter((entry) => entry.offset > last);
  return { ...timeline, entries: [...timeline.entries, ...added] };
}

/** By offset, each once. */
function inOrder(entries: Entry[]): Entry[] {
  return entries
    .sort((a, b) => a.offset - b.offset)
    .filter((entry, index, all) => entry.offset !== all[index - 1]?.offset);
}
