/** What this browser remembers: who was here, which rooms, what was read, written, unsent. */

import { isRecord } from "../model/entries";

const PREFIX = "chatmesh";

export interface RoomMemory {
  /** Everything up to here was seen, in the log's life `epoch`. */
  readonly read: number;
  readonly epoch: string | undefined;
  readonly draft: string;
}

export interface UnsentMemory {
  readonly id: string;
  readonly room: string;
  readonly text: string;
  readonly writtenMs: number;
}

/**
 * A browser may refuse storage (private windows, a full disk). The page works without:
 * it then forgets with the tab, which is what such a browser was asked to do.
 */
class Shelf {
  private readonly fallback = new Map<string, string>();

  constructor(private readonly storage: () => Storage) {}

  get(key: string): string | undefined {
    try {
      return this.storage().getItem(key) ?? this.fallback.get(key);
    } catch {
      return this.fallback.get(key);
    }
  }

  set(key: string, value: string): void {
    try {
      this.storage().setItem(key, value);
      this.fallback.delete(key);
    } catch {
      this.fallback.set(key, value);
    }
  }

  remove(key: string): void {
    this.fallback.delete(key);
    try {
      this.storage().removeItem(key);
    } catch {
      // Nothing could be stored there, so nothing is there.
    }
  }

  keys(prefix: string): string[] {
    const found = new Set([...this.fallback.keys()]);
    try {
      const storage = this.storage();
      for (let i = 0; i < storage.length; i++) {
        found.add(storage.key(i) ?? "");
      }
    } catch {
      // As above.
    }
    return [...found].filter((key) => key.startsWith(prefix));
  }
}

const local = new Shelf(() => localStorage);
const tab = new Shelf(() => sessionStorage);

/**
 * Who is signed in. Each tab keeps its own identity, so that two people can try the page
 * in one browser; a new tab is offered the last name.
 */
export const identity = {
  get(): { user: string; token: string | undefined } | undefined {
    const kept = parsed(tab.get(`${PREFIX}/identity`));
    if (isRecord(kept) && typeof kept["user"] === "string") {
      const token = kept["token"];
      return {
        user: kept["user"],
        token: typeof token === "string" ? token : undefined,
      };
    }
    return undefined;
  },
  set(user: string, token: string | undefined): void {
    tab.set(`${PREFIX}/identity`, JSON.stringify({ user, token }));
    local.set(`${PREFIX}/user`, user);
  },
  clear(): void {
    tab.remove(`${PREFIX}/identity`);
    local.remove(`${PREFIX}/user`);
  },
  lastUser(): string | undefined {
    return local.get(`${PREFIX}/user`);
  },
};

export type Theme = "system" | "light" | "dark";

/** `public/theme.js` reads the same key before the first paint. */
export const theme = {
  get(): Theme {
    const kept = local.get(`${PREFIX}/theme`);
    return kept === "light" || kept === "dark" ? kept : "system";
  },
  set(value: Theme): void {
    if (value === "system") {
      local.remove(`${PREFIX}/theme`);
    } else {
      local.set(`${PREFIX}/theme`, value);
    }
  },
};

/** A yes or no that this browser keeps; undefined until somebody has chosen. */
export function preference(name: string) {
  const key = `${PREFIX}/${name}`;
  return {
    get(): boolean | undefined {
      const kept = local.get(key);
      return kept === undefined ? undefined : kept === "yes";
    },
    set(value: boolean): void {
      local.set(key, value ? "yes" : "no");
    },
  };
}

/** One user's memory. Each room and each unsent message has a key of its own, so that
 * two tabs of one user do not overwrite each other's. */
export class Memory {
  private readonly home: string;

  constructor(user: string) {
    this.home = `${PREFIX}/of/${encodeURIComponent(user)}`;
  }

  rooms(): string[] {
    const prefix = `${this.home}/room/`;
    return local
      .keys(prefix)
      .map((key) => decodeURIComponent(key.slice(prefix.length)));
  }

  /** Whether anything was ever kept for this user. */
  get isNew(): boolean {
    return local.get(`${this.home}/since`) === undefined;
  }

  greet(nowMs: number): void {
    local.set(`${this.home}/since`, String(nowMs));
  }

  room(name: string): RoomMemory | undefined {
    return readRoom(local.get(this.roomKey(name)));
  }

  setRoom(name: string, memory: RoomMemory): void {
    local.set(this.roomKey(name), JSON.stringify(memory));
  }

  forgetRoom(name: string): void {
    local.remove(this.roomKey(name));
  }

  /** Another tab of this user has read further, or joined or left a room. */
  onRoomChanged(
    heard: (name: string, memory: RoomMemory | undefined) => void,
  ): () => void {
    const prefix = `${this.home}/room/`;
    const listener = (event: StorageEvent) => {
      if (event.key?.startsWith(prefix) && event.storageArea === localStorage) {
        const name = decodeURIComponent(event.key.slice(prefix.length));
        heard(name, readRoom(event.newValue ?? undefined));
      }
    };
    window.addEventListener("storage", listener);
    return () => window.removeEventListener("storage", listener);
  }

  get lastOpen(): string | undefined {
    return local.get(`${this.home}/open`);
  }

  set lastOpen(name: string | undefined) {
    if (name === undefined) {
      local.remove(`${this.home}/open`);
    } else {
      local.set(`${this.home}/open`, name);
    }
  }

  unsent(): UnsentMemory[] {
    return local
      .keys(`${this.home}/unsent/`)
      .flatMap((key) => {
        const kept = parsed(local.get(key));
        return isUnsent(kept) ? [kept] : [];
      })
      .sort((a, b) => a.writtenMs - b.writtenMs);
  }

  keepUnsent({ id, room, text, writtenMs }: UnsentMemory): void {
    const kept: UnsentMemory = { id, room, text, writtenMs };
    local.set(`${this.home}/unsent/${id}`, JSON.stringify(kept));
  }

  forgetUnsent(id: string): void {
    local.remove(`${this.home}/unsent/${id}`);
  }

  private roomKey(name: string): string {
    return `${this.home}/room/${encodeURIComponent(name)}`;
  }
}

function readRoom(kept: string | undefined): RoomMemory | undefined {
  const value = parsed(kept);
  if (!isRecord(value) || typeof value["read"] !== "number") {
    return undefined;
  }
  return {
    read: value["read"],
    epoch: typeof value["epoch"] === "string" ? value["epoch"] : undefined,
    draft: typeof value["draft"] === "string" ? value["draft"] : "",
  };
}

function isUnsent(value: unknown): value is UnsentMemory {
  return (
    isRecord(value) &&
    typeof value["id"] === "string" &&
    typeof value["room"] === "string" &&
    typeof value["text"] === "string" &&
    typeof value["writtenMs"] === "number"
  );
}

/** JSON that somebody else may have written over; undefined when it is none. */
function parsed(text: string | undefined): unknown {
  if (text === undefined) {
    return undefined;
  }
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
