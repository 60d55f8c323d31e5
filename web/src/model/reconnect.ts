/**
 * Where to connect next, and when: the rules, without timers or sockets.
 *
 * A page knows several gateways and every one of them serves every room, so a gateway
 * that is gone is a reason to move, not to wait. Only when all of them have failed in a
 * row do the pauses grow.
 */

export interface Plan {
  /** Which gateway of the list to try. */
  readonly gateway: number;
  /** Failures in a row, since the last connection that held. */
  readonly failures: number;
  readonly delayMs: number;
}

/** What ended a connection, or kept it from being made. */
export interface Ending {
  readonly code: number;
  /** How long it had been established; 0 for one that never was. */
  readonly livedMs: number;
}

/** A first retry is spread over this much, so that a gateway's clients do not all come at once. */
export const SPREAD_MS = 800;
/** A connection that ends sooner was no success, or two sick gateways would be a tight loop. */
export const STEADY_MS = 5_000;
export const PAUSE_MS_MIN = 1_000;
export const PAUSE_MS_MAX = 15_000;

const CODE_SHUTDOWN = 3001;
const CODE_TOO_MANY_REQUESTS = 3013;

/** What to do after an ending. `random` is in [0, 1). */
export function planAfter(
  previous: Plan,
  ending: Ending,
  gateways: number,
  random: number,
): Plan {
  const wasSteady = ending.livedMs >= STEADY_MS;
  const failures = wasSteady ? 1 : previous.failures + 1;
  // A socket that broke says little about the gateway, which deserves another try; one
  // that said goodbye, or did not let us in, does not.
  const staysOnce = wasSteady && ending.code !== CODE_SHUTDOWN;
  const gateway = staysOnce
    ? previous.gateway
    : (previous.gateway + 1) % Math.max(1, gateways);
  const overloaded = ending.code === CODE_TOO_MANY_REQUESTS;
  if (failures <= gateways && !overloaded) {
    return { gateway, failures, delayMs: Math.round(random * SPREAD_MS) };
  }
  const doublings = Math.min(Math.max(0, failures - gateways), 10);
  const ceiling = Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** doublings);
  const delayMs = Math.round(PAUSE_MS_MIN + random * (ceiling - PAUSE_MS_MIN));
  return { gateway, failures, delayMs };
}

/** Codes after which the server does not want this client back. */
export function isFinal(code: number): boolean {
  return (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);
}
