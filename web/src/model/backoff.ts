/** Pauses between tries of one thing: doubling, capped, and spread by chance. */

export function pauseMs(
  attempt: number,
  { baseMs, capMs }: { baseMs: number; capMs: number },
  random: number,
): number {
  const ceiling = Math.min(capMs, baseMs * 2 ** Math.min(attempt, 20));
  // At least half of it: a pause near zero would make the count of tries meaningless.
  return Math.round(ceiling * (0.5 + random / 2));
}
