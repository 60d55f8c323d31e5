import { describe, expect, it } from "vitest";
import type { Entry } from "./entries";
import {
  HOLE_ENTRIES_MAX,
  heard,
  KEPT_ENTRIES,
  lastOf,
  missing,
  newestMessage,
  newestPage,
  pageAfter,
  pageBefore,
  positionOf,
  standsAt,
  type Timeline,
  trimmed,
  UNKNOWN,
  unreadAfter,
} from "./timeline";

const EPOCH = "life-1";

function message(offset: number, author = "ada"): Entry {
  const text = `text ${offset}`;
  return {
    kind: "message",
    offset,
    id: `id-${offset}`,
    author,
    text,
    at: offset * 1_000,
  };
}

function range(first: number, last: number, author = "ada"): Entry[] {
  return Array.from({ length: last - first + 1 }, (_, i) => message(first + i, author));
}

function offsets({ entries }: Timeline): number[] {
  return entries.map(({ offset }) => offset);
}

/** A room of `top` entries whose newest page is loaded from `first` on. */
function loaded(first: number, top: number): Timeline {
  return newestPage(standsAt(UNKNOWN, EPOCH, top), range(first, top), top);
}

describe("loading", () => {
  it("asks for the newest page first", () => {
    expect(missing(standsAt(UNKNOWN, EPOCH, 7))).toEqual({ ask: "newest" });
  });

  it("knows that an empty room is complete", () => {
    const room = newestPage(standsAt(UNKNOWN, EPOCH, 0), [], 0);

    expect(room).toMatchObject({ loaded: true, complete: true, entries: [] });
    expect(missing(room)).toBeUndefined();
    expect(positionOf(room)).toEqual({ offset: 0, epoch: EPOCH });
  });

  it("shows the first message of an empty room", () => {
    const room = heard(newestPage(standsAt(UNKNOWN, EPOCH, 0), [], 0), message(1));

    expect(offsets(room)).toEqual([1]);
    expect(missing(room)).toBeUndefined();
  });

  it("puts live entries behind a page that was asked for before them", () => {
    const waiting = heard(heard(standsAt(UNKNOWN, EPOCH, 5), message(6)), message(7));

    expect(offsets(newestPage(waiting, range(3, 6), 6))).toEqual([3, 4, 5, 6, 7]);
  });

  it("notices that retention has emptied a room", () => {
    const room = newestPage(standsAt(UNKNOWN, EPOCH, 9), [], 9);

    expect(lastOf(room)).toBe(9);
    expect(offsets(heard(room, message(10)))).toEqual([10]);
    expect(missing(heard(room, message(12)))).toEqual({ ask: "after", offset: 9 });
  });
});

describe("live entries", () => {
  it("drops repeats, old and new", () => {
    const room = heard(loaded(3, 5), message(6));

    expect(heard(room, message(6))).toBe(room);
    expect(heard(room, message(4))).toBe(room);
    expect(heard(room, message(1))).toBe(room);
  });

  it("orders by offset whatever order they arrive in", () => {
    const arrivals = [9, 7, 6, 10, 8, 7, 9].map((offset) => message(offset));
    const room = arrivals.reduce(heard, loaded(4, 5));

    expect(offsets(room)).toEqual([4, 5, 6, 7, 8, 9, 10]);
    expect(room.ahead).toEqual([]);
  });

  it("hides what is beyond a hole until the hole is filled", () => {
    const room = heard(loaded(1, 3), message(6));

    expect(offsets(room)).toEqual([1, 2, 3]);
    expect(missing(room)).toEqual({ ask: "after", offset: 3 });
    const whole = pageAfter(room, range(4, 5), 6);
    expect(offsets(whole)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(missing(whole)).toBeUndefined();
  });

  it("never shows a hole, in any order of arrivals and pages", () => {
    // A small exhaustive search says more here than examples: every permutation of five
    // arrivals, with a page handed in after each of them.
    for (const arrivals of permutations([4, 5, 6, 7, 8])) {
      let room = loaded(1, 3);
      for (const offset of arrivals) {
        room = heard(room, message(offset));
        expect(offsets(room)).toEqual(offsets(room).map((_, i) => i + 1));
        const wanted = missing(room);
        if (wanted?.ask === "after") {
          room = pageAfter(room, range(wanted.offset + 1, room.top), room.top);
        }
        expect(lastOf(room)).toBe(room.top);
      }
      expect(offsets(room)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    }
  });
});

describe("coming back", () => {
  it("resumes from the last entry before any hole", () => {
    const room = heard(loaded(1, 3), message(6));

    expect(positionOf(room)).toEqual({ offset: 3, epoch: EPOCH });
  });

  it("pages what a subscription could not recover", () => {
    const room = standsAt(loaded(1, 3), EPOCH, 900);

    expect(missing(room)).toEqual({ ask: "after", offset: 3 });
    const halfway = pageAfter(room, range(4, 503), 900);
    expect(missing(halfway)).toEqual({ ask: "after", offset: 503 });
    expect(missing(pageAfter(halfway, range(504, 900), 900))).toBeUndefined();
  });

  it("starts over at the newest page when too much was missed", () => {
    const top = 3 + HOLE_ENTRIES_MAX + 1;
    const room = standsAt(loaded(1, 3), EPOCH, top);

    expect(missing(room)).toEqual({ ask: "newest" });
    const fresh = newestPage(room, range(top - 9, top), top);
    expect(offsets(fresh)).toEqual(range(top - 9, top).map(({ offset }) => offset));
    expect(fresh.complete).toBe(false);
  });

  it("starts over when the log has begun another life", () => {
    const room = standsAt(loaded(1, 3), "life-2", 1);

    expect(room).toMatchObject({ loaded: false, entries: [], top: 1, epoch: "life-2" });
  });

  it("keeps the retained part when retention has taken what was missing", () => {
    const room = standsAt(loaded(1, 3), EPOCH, 20);
    const kept = pageAfter(room, range(15, 20), 20);

    expect(offsets(kept)).toEqual([15, 16, 17, 18, 19, 20]);
    expect(kept.complete).toBe(true);
  });

  it("asks for the newest page when nothing missing is left", () => {
    const room = pageAfter(standsAt(loaded(1, 3), EPOCH, 20), [], 20);

    expect(missing(room)).toEqual({ ask: "newest" });
  });
});

describe("scrolling back", () => {
  it("puts older entries before the first one", () => {
    const room = pageBefore(loaded(5, 8), range(2, 4));

    expect(offsets(room)).toEqual([2, 3, 4, 5, 6, 7, 8]);
    expect(room.complete).toBe(false);
    expect(pageBefore(room, range(1, 1)).complete).toBe(true);
  });

  it("is complete when nothing older comes", () => {
    expect(pageBefore(loaded(5, 8), []).complete).toBe(true);
  });

  it("refuses a page that would leave a hole", () => {
    const room = pageBefore(loaded(5, 8), range(1, 3));

    expect(offsets(room)).toEqual([5, 6, 7, 8]);
  });

  it("lets go of the oldest entries of a long timeline, and fetches them again", () => {
    const top = 2 * KEPT_ENTRIES + 1;
    const room = trimmed(loaded(1, top));

    expect(room.entries).toHaveLength(KEPT_ENTRIES);
    expect(room.complete).toBe(false);
    const { base } = room;
    expect(pageBefore(room, range(base - 4, base)).base).toBe(base - 5);
    expect(trimmed(room)).toBe(room);
  });
});

describe("unread", () => {
  it("counts the messages of others behind what was read", () => {
    const mine = newestPage(standsAt(UNKNOWN, EPOCH, 6), range(1, 6, "bob"), 6);
    const room = heard(heard(mine, message(7, "ada")), message(8, "bob"));

    expect(unreadAfter(room, 4, "ada")).toBe(3);
    expect(unreadAfter(room, 8, "ada")).toBe(0);
  });

  it("counts what is known by number only, before and beyond what is loaded", () => {
    const room = heard(loaded(11, 20), message(25, "bob"));

    expect(unreadAfter(room, 5, "bob")).toBe(5 + 10 + 5);
  });

  it("ignores entries of types it does not know", () => {
    const room = heard(loaded(1, 3), { kind: "other", offset: 4 });

    expect(unreadAfter(room, 3, "bob")).toBe(0);
    expect(newestMessage(room)?.offset).toBe(3);
    expect(lastOf(room)).toBe(4);
  });
});

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length === 0) {
    return [[]];
  }
  return items.flatMap((item, i) =>
    permutations(items.filter((_, j) => j !== i)).map((rest) => [item, ...rest]),
  );
}
