/** The front door: a name in development, a token elsewhere. */

import { useEffect, useRef, useState } from "preact/hooks";
import { userNamed } from "../model/names";
import { Mark } from "./icons";

interface Props {
  readonly development: boolean;
  readonly lastUser: string | undefined;
  readonly onName: (user: string) => Promise<void>;
  /** False when it is no token. */
  readonly onToken: (token: string) => boolean;
}

export function SignIn({ development, lastUser, onName, onToken }: Props) {
  const field = useRef<HTMLInputElement>(null);
  const [trouble, setTrouble] = useState<string>();
  const [busy, setBusy] = useState(false);

  // The page's only field: whoever comes here came to fill it in.
  useEffect(() => field.current?.select(), []);

  const refuse = (reason: string) => {
    setTrouble(reason);
    field.current?.focus();
  };

  const submit = async (event: Event) => {
    event.preventDefault();
    const typed = field.current?.value ?? "";
    if (!development) {
      if (!onToken(typed.trim())) {
        refuse("This is not a token. It has three parts with dots between them.");
      }
      return;
    }
    const named = userNamed(typed);
    if ("refusal" in named) {
      refuse(named.refusal);
      return;
    }
    setBusy(true);
    try {
      await onName(named.name);
    } catch (error) {
      setBusy(false);
      refuse(error instanceof Error ? error.message : "The gateway does not answer.");
    }
  };

  const common = {
    id: "who",
    ref: field,
    autocapitalize: "none",
    spellcheck: false,
    "aria-invalid": trouble !== undefined,
    "aria-describedby": "who-note",
  } as const;

  return (
    <main class="front">
      <form class="card" onSubmit={(event) => void submit(event)} noValidate>
        <Mark />
        <h1>chatmesh</h1>
        <p>The same conversation on every server.</p>
        <label for="who">{development ? "Your name" : "Your token"}</label>
        {development ? (
          <input
            {...common}
            type="text"
            name="user"
            autocomplete="username"
            defaultValue={lastUser ?? ""}
            placeholder="ada"
          />
        ) : (
          <input
            {...common}
            type="password"
            name="token"
            autocomplete="off"
            placeholder="eyJ…"
          />
        )}
        <p
          id="who-note"
          class={trouble === undefined ? "note" : "note trouble"}
          role="alert"
        >
          {trouble}
        </p>
        <button type="submit" class="primary" disabled={busy}>
          {busy ? "One moment …" : "Enter"}
        </button>
        {development && (
          <p class="note quiet">
            Development login: no password, for trying things out. Open a second tab to
            be somebody else.
          </p>
        )}
      </form>
    </main>
  );
}
