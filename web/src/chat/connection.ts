/** Keeps one link to the mesh: to which gateway, since when, and when the next try is. */

import { type ReadonlySignal, signal } from "@preact/signals";
import { type Plan, planAfter } from "../model/reconnect";
import { Link, type LinkEnding, type Tokens } from "./link";
import type { Addresses } from "./ways";

export interface Gateway extends Addresses {
  readonly name: string;
}

export type ConnectionState =
  | { readonly at: "connecting"; readonly gateway: string; readonly again: boolean }
  | { readonly at: "connected"; readonly gateway: string }
  | {
      readonly at: "waiting";
      readonly gateway: string;
      readonly untilMs: number;
      readonly reason: string;
    }
  /** The server does not want us back, or the sign-in is over. */
  | { readonly at: "ended"; readonly reason: string; readonly signIn: boolean }
  | { readonly at: "stopped" };

export interface ConnectionHandlers {
  onUp(link: Link): void;
  onDown(): void;
}

const CODE_UNAUTHORIZED = 1;
const CODE_INVALID_TOKEN = 3500;

export class Connection {
  private readonly current = signal<ConnectionState>({ at: "stopped" });
  private link: Link | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private plan: Plan;
  private everConnected = false;
  /** The way that got through last; what blocks the others will go on blocking them. */
  private worked: string | undefined;
  private tokenRenewed = false;
  private connectedMs = 0;
  private readonly onOnline = () => this.tryNow();
  private readonly onOffline = () => this.link?.giveUp("offline");

  constructor(
    readonly gateways: readonly Gateway[],
    first: string,
    private readonly tokens: Tokens & { forget(): void },
    private readonly handlers: ConnectionHandlers,
  ) {
    const index = gateways.findIndex((gateway) => gateway.name === first);
    this.plan = { gateway: Math.max(0, index), failures: 0, delayMs: 0 };
  }

  get state(): ReadonlySignal<ConnectionState> {
    return this.current;
  }

  start(): void {
    window.addEventListener("online", this.onOnline);
    window.addEventListener("offline", this.onOffline);
    this.open();
  }

  stop(): void {
    window.removeEventListener("online", this.onOnline);
    window.removeEventListener("offline", this.onOffline);
    this.drop();
    this.current.value = { at: "stopped" };
  }

  /** Move to a gateway of the reader's choice. */
  moveTo(name: string): void {
    const gateway = this.gateways.findIndex((known) => known.name === name);
    if (gateway < 0) {
      return;
    }
    this.plan = { gateway, failures: 0, delayMs: 0 };
    this.drop();
    this.open();
  }

  /** Do not wait any longer for the next try. */
  tryNow(): void {
    const { at } = this.current.value;
    if (at === "waiting" || at === "ended") {
      this.drop();
      this.open();
    }
  }

  private open(): void {
    const gateway = this.gateways[this.plan.gateway];
    if (gateway === undefined) {
      this.current.value = {
        at: "ended",
        reason: "no gateway is known",
        signIn: false,
      };
      return;
    }
    this.current.value = {
      at: "connecting",
      gateway: gateway.name,
      again: this.everConnected,
    };
    const link = new Link(gateway, this.worked, this.tokens, {
      onConnected: (name, way) => {
        this.worked = way;
        this.everConnected = true;
        this.tokenRenewed = false;
        this.connectedMs = Date.now();
        this.current.value = { at: "connected", gateway: name ?? gateway.name };
        this.handlers.onUp(link);
      },
      onEnded: (ending) => {
        this.link = undefined;
        if (ending.wasConnected) {
          this.handlers.onDown();
        }
        this.afterwards(ending);
      },
    });
    this.link = link;
  }

  private afterwards(ending: LinkEnding): void {
    if (ending.code === CODE_INVALID_TOKEN && !this.tokenRenewed) {
      // A token kept from earlier may be signed with a secret that is no longer used. A
      // new one settles whether it is that.
      this.tokenRenewed = true;
      this.tokens.forget();
      this.wait({ ...this.plan, delayMs: 0 }, ending.reason);
      return;
    }
    if (ending.final) {
      const signIn =
        ending.code === CODE_INVALID_TOKEN || ending.code === CODE_UNAUTHORIZED;
      this.current.value = { at: "ended", reason: ending.reason, signIn };
      return;
    }
    const livedMs = ending.wasConnected ? Date.now() - this.connectedMs : 0;
    const { code } = ending;
    this.wait(
      planAfter(this.plan, { code, livedMs }, this.gateways.length, Math.random()),
      ending.reason,
    );
  }

  private wait(plan: Plan, reason: string): void {
    this.plan = plan;
    this.current.value = {
      at: "waiting",
      gateway: this.gateways[plan.gateway]?.name ?? "",
      untilMs: Date.now() + plan.delayMs,
      reason,
    };
    this.timer = setTimeout(() => this.open(), plan.delayMs);
  }

  /** End whatever is under way, quietly. */
  private drop(): void {
    clearTimeout(this.timer);
    const link = this.link;
    this.link = undefined;
    if (link !== undefined) {
      const wasUp = this.current.value.at === "connected";
      link.close();
      if (wasUp) {
        this.handlers.onDown();
      }
    }
  }
}
