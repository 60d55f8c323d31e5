import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { type RunSnapshot, readRunEvent, readSnapshots } from "./run-events";
import {
  isLifeless,
  isMissing,
  LIFELESS_MS,
  NO_RUNS,
  type Run,
  type Runs,
  runOver,
  SILENT_MS,
  snapshotTaken,
  textOfRun,
  told,
  wantsSnapshot,
} from "./runs";

interface Vectors {
  event: object;
  snapshot: object;
  cases: {
    name: string;
    happens: { event?: object; snapshot?: object; over?: string }[];
    missing: boolean;
    runs: Record<string, unknown>[];
  }[];
}

const VECTORS = JSON.parse(
  readFileSync(new URL("../../../tests/vectors/runs.json", import.meta.url), "utf8"),
) as Vectors;
const NOW_MS = 1_000;

function event(fields: object) {
  const read = readRunEvent(fields);
  if (read === undefined) {
    throw new Error(`not an event: ${JSON.stringify(fields)}`);
  }
  return read;
}

function snapshots(...runs: object[]): RunSnapshot[] {
  return readSnapshots({ runs }) ?? [];
}

/** A run as the vectors describe one, with what they leave out. */
function described(run: Run): Record<string, unknown> {
  return {
    run: run.id,
    title: run.face.title,
    picture: run.face.picture,
    trigger: run.trigger,
    requester: run.requester,
    attempt: run.attempt,
    epoch: run.epoch,
    seq: run.seq,
    status: run.status,
    texts: run.steps.map(({ text }) => text),
    tools: run.steps.flatMap(({ tools }) =>
      tools.map(({ id, name, arguments: asked, state, progress, result }) => {
        return {
          id,
          name,
          arguments: asked,
          state,
          progress: progress ?? null,
          result,
        };
      }),
    ),
    approvals: run.approvals.map(({ id, outcome, by, arguments: asked }) => {
      return { id, outcome, by, arguments: asked };
    }),
    ended: run.ended,
  };
}

describe("the vectors", () => {
  for (const { name, happens, missing, runs } of VECTORS.cases) {
    it(name, () => {
      let state = NO_RUNS;
      for (const { event: heard, snapshot, over } of happens) {
        if (heard !== undefined) {
          state = told(state, event({ ...VECTORS.event, ...heard }), NOW_MS);
        } else if (snapshot !== undefined) {
          const taken = snapshots({ ...VECTORS.snapshot, ...snapshot });
          state = snapshotTaken(state, taken, NOW_MS);
        } else if (over !== undefined) {
          state = runOver(state, over);
        }
      }
      const shown = [...state.live.values()];
      expect(
        shown.map((run, index) => ({ ...described(run), ...runs[index] })),
      ).toEqual(shown.map(described));
      expect(shown).toHaveLength(runs.length);
      expect(shown.some(isMissing)).toBe(missing);
    });
  }
});

describe("silence", () => {
  const started = told(
    NO_RUNS,
    event({ ...VECTORS.event, seq: 1, type: "RUN_STARTED" }),
    NOW_MS,
  );

  it("makes one ask", () => {
    expect(wantsSnapshot(started, NOW_MS + SILENT_MS - 1)).toBe(false);
    expect(wantsSnapshot(started, NOW_MS + SILENT_MS)).toBe(true);
  });

  it("is said once it is too long for a takeover", () => {
    const run = [...started.live.values()][0] as Run;
    expect(isLifeless(run, NOW_MS + LIFELESS_MS - 1)).toBe(false);
    expect(isLifeless(run, NOW_MS + LIFELESS_MS)).toBe(true);
    const after = NOW_MS + LIFELESS_MS;
    expect(isLifeless({ ...run, status: "queued" }, after)).toBe(false);
    expect(isLifeless({ ...run, ended: true }, after)).toBe(false);
  });

  it("ends a run that nobody knows any more", () => {
    expect(snapshotTaken(started, [], NOW_MS + 1).live.size).toBe(1);
    expect(snapshotTaken(started, [], NOW_MS + SILENT_MS).live.size).toBe(0);
  });
});

// -- Whatever the way does to events, what is shown is right ------------------------------

/** Numbers that look like chance and come again: mulberry32. */
function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

interface Truth {
  attempt: number;
  epoch: number;
  step: number;
  seq: number;
  /** By step, as it is to be shown. */
  texts: Map<number, string>;
}

const SIGNS = ["a", "b", "é", "🦉", "\n", "**", " "];

/** One thing an agent says next; the truth moves along. */
function next(truth: Truth, random: () => number): object {
  const fields = { ...VECTORS.event, run: "r1" };
  const dice = random();
  if (dice < 0.06) {
    truth.attempt++;
    truth.epoch += random() < 0.5 ? 1 : 0;
    truth.step = Math.max(1, truth.step - (random() < 0.3 ? 1 : 0));
    for (const step of truth.texts.keys()) {
      if (step >= truth.step) {
        truth.texts.delete(step);
      }
    }
    truth.seq += 1 + Math.floor(random() * 3);
    return { ...fields, ...placed(truth), ...custom("attempt") };
  }
  truth.seq++;
  if (dice < 0.12) {
    truth.step++;
    return { ...fields, ...placed(truth), type: "STEP_STARTED" };
  }
  if (dice < 0.2) {
    return { ...fields, ...placed(truth), ...custom("heartbeat") };
  }
  const { off, ...place } = placed(truth);
  const size = 1 + Math.floor(random() * 6);
  const delta = Array.from(
    { length: size },
    () => SIGNS[Math.floor(random() * SIGNS.length)] ?? "",
  ).join("");
  truth.texts.set(truth.step, (truth.texts.get(truth.step) ?? "") + delta);
  return { ...fields, ...place, off, type: "TEXT_MESSAGE_CONTENT", data: { delta } };
}

function custom(name: string): object {
  return { type: "CUSTOM", data: { name, value: {} } };
}

function placed({ attempt, epoch, step, seq, texts }: Truth) {
  return { attempt, epoch, step, seq, off: [...(texts.get(step) ?? "")].length };
}

function asSnapshot({ attempt, epoch, seq, texts }: Truth): object {
  const steps = [...texts].map(([step, text]) => ({ step, text, tools: [] }));
  return { ...VECTORS.snapshot, attempt, epoch, seq, steps };
}

function shownBy(runs: Runs): string {
  const run = runs.live.get("r1");
  return run === undefined ? "" : textOfRun(run);
}

function whole(truth: Truth): string {
  return [...truth.texts]
    .sort(([a], [b]) => a - b)
    .map(([, text]) => text)
    .join("");
}

describe("over a way that loses, doubles and mixes up", () => {
  it.each(Array.from({ length: 200 }, (_, seed) => seed))("seed %i", (seed) => {
    const random = chance(seed);
    const truth: Truth = { attempt: 1, epoch: 1, step: 1, seq: 1, texts: new Map() };
    const everTrue = new Set([""]);
    let onTheWay = [{ ...VECTORS.event, seq: 1, type: "RUN_STARTED" } as object];
    let late: object[] = [];
    let runs = NO_RUNS;
    for (let turn = 0; turn < 120; turn++) {
      onTheWay.push(next(truth, random));
      everTrue.add(whole(truth));
      if (random() < 0.1) {
        late.push(asSnapshot(truth));
      }
      while (onTheWay.length > 0 && random() < 0.7) {
        const [taken] = onTheWay.splice(Math.floor(random() * onTheWay.length), 1);
        const arrivals = random() < 0.15 ? 0 : random() < 0.15 ? 2 : 1;
        for (let i = 0; i < arrivals && taken !== undefined; i++) {
          runs = told(runs, event(taken), NOW_MS);
        }
      }
      if (late.length > 0 && random() < 0.2) {
        // Snapshots may overtake events, and each other.
        const [taken] = late.splice(Math.floor(random() * late.length), 1);
        runs = snapshotTaken(runs, snapshots(taken ?? {}), NOW_MS);
      }
      // What is shown was true at some time, though perhaps not any more: after a word of
      // a new attempt, what came before it may be all there is.
      const shown = shownBy(runs);
      expect([...everTrue].some((text) => text.startsWith(shown))).toBe(true);
    }
    onTheWay = onTheWay.concat(next(truth, random));
    for (const taken of onTheWay) {
      runs = told(runs, event(taken), NOW_MS);
    }
    late = [asSnapshot(truth)];
    runs = snapshotTaken(runs, snapshots(...late), NOW_MS);
    expect(shownBy(runs)).toBe(whole(truth));
    expect(wantsSnapshot(runs, NOW_MS)).toBe(false);
  });
});
