import { describe, expect, it } from "vitest";
import {
  isFinal,
  PAUSE_MS_MAX,
  PAUSE_MS_MIN,
  type Plan,
  planAfter,
  SPREAD_MS,
  STEADY_MS,
} from "./reconnect";

const START: Plan = { gateway: 0, failures: 0, delayMs: 0 };
const BROKE = { code: 2, livedMs: STEADY_MS };
const SHUTDOWN = { code: 3001, livedMs: STEADY_MS };
const UNREACHABLE = { code: 2, livedMs: 0 };
const SHORT = { code: 3004, livedMs: 100 };

describe("planning the next try", () => {
  it("gives a gateway whose socket broke one more chance, then moves on", () => {
    const again = planAfter(START, BROKE, 2, 0.5);
    expect(again).toMatchObject({ gateway: 0, delayMs: SPREAD_MS / 2 });

    expect(planAfter(again, UNREACHABLE, 2, 0.5)).toMatchObject({ gateway: 1 });
  });

  it("moves at once when the gateway says it shuts down", () => {
    expect(planAfter(START, SHUTDOWN, 2, 0)).toMatchObject({ gateway: 1, delayMs: 0 });
  });

  it("pauses longer and longer once every gateway has failed, up to a limit", () => {
    let plan = START;
    const pauses: number[] = [];
    for (let i = 0; i < 12; i++) {
      plan = planAfter(plan, UNREACHABLE, 2, 1);
      pauses.push(plan.delayMs);
    }

    expect(pauses.slice(0, 2)).toEqual([SPREAD_MS, SPREAD_MS]);
    expect(pauses.slice(2)).toEqual([...pauses.slice(2)].sort((a, b) => a - b));
    expect(pauses[2]).toBeGreaterThan(PAUSE_MS_MIN);
    expect(pauses.at(-1)).toBe(PAUSE_MS_MAX);
  });

  it("takes connections that do not hold for the failures they are", () => {
    let plan = START;
    for (let i = 0; i < 6; i++) {
      plan = planAfter(plan, SHORT, 2, 1);
    }

    expect(plan.delayMs).toBe(PAUSE_MS_MAX);
  });

  it("begins anew after a connection that held", () => {
    const tired: Plan = { gateway: 1, failures: 9, delayMs: 15_000 };

    expect(planAfter(tired, BROKE, 2, 0)).toMatchObject({ failures: 1, delayMs: 0 });
  });

  it("does not hurry a gateway that has too many to serve", () => {
    const plan = planAfter(START, { code: 3013, livedMs: STEADY_MS }, 2, 0);

    expect(plan.delayMs).toBeGreaterThanOrEqual(PAUSE_MS_MIN);
  });

  it("stays where it is when there is nowhere else", () => {
    expect(planAfter(START, UNREACHABLE, 1, 0)).toMatchObject({ gateway: 0 });
  });
});

describe("goodbyes", () => {
  it.each([
    [3000, false],
    [3001, false],
    [3500, true],
    [3999, true],
    [4000, false],
    [4500, true],
    [5000, false],
  ])("code %i ends it for good: %s", (code, final) => {
    expect(isFinal(code)).toBe(final);
  });
});
