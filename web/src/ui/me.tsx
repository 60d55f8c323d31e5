/** Who I am, which gateway I am on, and how to change either. */

import { useState } from "preact/hooks";
import type { Chat } from "../chat/chat";
import { type Theme, theme } from "../chat/storage";
import { Moon, Screen, SignOut, Sun } from "./icons";
import { KeyboardHelp } from "./keyboard-help";
import { You } from "./you";

/** More gateways than this are chosen from a list rather than side by side. */
const SIDE_BY_SIDE_MAX = 3;

export function Me({ chat, onSignOut }: { chat: Chat; onSignOut: () => void }) {
  return (
    <footer class="me">
      <GatewayChoice chat={chat} />
      <div class="me-card">
        <You chat={chat} />
        <div class="me-tools">
          <KeyboardHelp />
          <ThemeButton />
          <button
            type="button"
            class="icon-button"
            onClick={onSignOut}
            aria-label="Sign out"
            title="Sign out"
          >
            <SignOut />
          </button>
        </div>
      </div>
    </footer>
  );
}

function GatewayChoice({ chat }: { chat: Chat }) {
  const { connection } = chat;
  const { gateways } = connection;
  const state = connection.state.value;
  const here = "gateway" in state ? state.gateway : undefined;
  if (gateways.length < 2) {
    return null;
  }
  if (gateways.length > SIDE_BY_SIDE_MAX) {
    return (
      <label class="gateway-list">
        <span>Gateway</span>
        <select
          value={here ?? ""}
          onChange={(event) => connection.moveTo(event.currentTarget.value)}
        >
          {gateways.map(({ name }) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      </label>
    );
  }
  return (
    <fieldset class="gateways">
      <legend>Gateway</legend>
      <div class="segments">
        {gateways.map(({ name }) => (
          <label key={name} class="segment">
            <input
              type="radio"
              name="gateway"
              value={name}
              checked={name === here}
              onChange={() => connection.moveTo(name)}
            />
            <span>{name}</span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}

const THEMES: Record<Theme, { next: Theme; name: string; icon: typeof Sun }> = {
  system: { next: "light", name: "as the system", icon: Screen },
  light: { next: "dark", name: "light", icon: Sun },
  dark: { next: "system", name: "dark", icon: Moon },
};

function ThemeButton() {
  const [chosen, setChosen] = useState(theme.get());
  const { next, name, icon: Icon } = THEMES[chosen];
  const label = `Colours: ${name}. Change to ${THEMES[next].name}`;
  const change = () => {
    theme.set(next);
    setChosen(next);
    if (next === "system") {
      delete document.documentElement.dataset["theme"];
    } else {
      document.documentElement.dataset["theme"] = next;
    }
  };
  return (
    <button
      type="button"
      class="icon-button"
      onClick={change}
      aria-label={label}
      title={label}
      data-testid="theme"
    >
      <Icon />
    </button>
  );
}
