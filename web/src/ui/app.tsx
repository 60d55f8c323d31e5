/** From an empty page to a chat: find the gateway, sign in, connect. */

import { batch, signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { Chat } from "../chat/chat";
import {
  developmentToken,
  findOut,
  type Installation,
  roleOf,
  subjectOf,
  TokenKeeper,
} from "../chat/login";
import { identity, Memory } from "../chat/storage";
import { ChatView } from "./chat-view";
import { Mark } from "./icons";
import { SignIn } from "./sign-in";

type Phase =
  | { readonly at: "looking" }
  | { readonly at: "lost"; readonly reason: string }
  | { readonly at: "signing-in"; readonly installation: Installation }
  | {
      readonly at: "chatting";
      readonly chat: Chat;
      readonly installation: Installation;
    };

const phase = signal<Phase>({ at: "looking" });

async function begin(): Promise<void> {
  phase.value = { at: "looking" };
  let installation: Installation;
  try {
    installation = await findOut();
  } catch (error) {
    phase.value = { at: "lost", reason: error instanceof Error ? error.message : "" };
    return;
  }
  const known = identity.get();
  if (known !== undefined && (installation.development || known.token !== undefined)) {
    enter(installation, known.user, known.token);
  } else {
    phase.value = { at: "signing-in", installation };
  }
}

function enter(
  installation: Installation,
  user: string,
  token: string | undefined,
): void {
  identity.set(user, token);
  const tokens = new TokenKeeper(user, installation.development, token, (renewed) =>
    identity.set(user, renewed),
  );
  const { gateways, gateway } = installation;
  const role = installation.development ? "owner" : roleOf(token ?? "");
  const chat = new Chat(user, role, gateways, gateway, tokens, new Memory(user));
  batch(() => {
    chat.start();
    phase.value = { at: "chatting", chat, installation };
  });
}

function signOut(): void {
  const { value } = phase;
  if (value.at === "chatting") {
    value.chat.stop();
    identity.clear();
    phase.value = { at: "signing-in", installation: value.installation };
  }
}

export function App() {
  useEffect(() => void begin(), []);
  const now = phase.value;
  switch (now.at) {
    case "looking":
      return (
        <main class="front" aria-busy="true">
          <p class="front-wait" role="status">
            <Mark />
            <span>Looking for the mesh …</span>
          </p>
        </main>
      );
    case "lost":
      return (
        <main class="front">
          <div class="card" role="alert">
            <Mark />
            <h1>No gateway answers</h1>
            <p>The server this page came from cannot be reached. {now.reason}</p>
            <button type="button" class="primary" onClick={() => void begin()}>
              Try again
            </button>
          </div>
        </main>
      );
    case "signing-in": {
      const { installation } = now;
      return (
        <SignIn
          development={installation.development}
          lastUser={identity.lastUser()}
          onName={async (user) =>
            enter(installation, user, await developmentToken(user))
          }
          onToken={(token) => {
            const user = subjectOf(token);
            if (user === undefined) {
              return false;
            }
            enter(installation, user, token);
            return true;
          }}
        />
      );
    }
    case "chatting":
      return <ChatView key={now.chat.me} chat={now.chat} onSignOut={signOut} />;
  }
}
