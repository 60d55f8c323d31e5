/** The state of the connection: a dot and a word always, a bar when something is wrong. */

import { useEffect, useState } from "preact/hooks";
import type { Chat } from "../chat/chat";
import type { ConnectionState } from "../chat/connection";

const COUNTDOWN_TICK_MS = 250;
/** A reconnect faster than this is not worth a word. */
const PATIENCE_MS = 700;

export function ConnectionDot({ state }: { state: ConnectionState }) {
  return <span class={`dot ${state.at}`} aria-hidden="true" />;
}

export function stateInWords(state: ConnectionState): string {
  switch (state.at) {
    case "connected":
      return "Connected";
    case "connecting":
      return state.again ? "Reconnecting …" : "Connecting …";
    case "waiting":
      return isOffline() ? "Offline" : "Reconnecting …";
    case "ended":
      return "Disconnected";
    case "stopped":
      return "Signed out";
  }
}

/** What is wrong and what happens next. Empty, and still there for screen readers, when all is well. */
export function ConnectionNotice({
  chat,
  onSignOut,
}: {
  chat: Chat;
  onSignOut: () => void;
}) {
  const { connection } = chat;
  const state = connection.state.value;
  const troubled = state.at !== "connected" && state.at !== "stopped";
  const patient = usePatience(troubled && state.at !== "ended");
  const shown = troubled && !patient;
  return (
    <div
      class={`notice ${shown ? state.at : "calm"}`}
      role="status"
      data-testid="connection"
      data-state={state.at}
      data-gateway={"gateway" in state ? state.gateway : ""}
    >
      {shown && <Words chat={chat} state={state} onSignOut={onSignOut} />}
    </div>
  );
}

function Words(props: { chat: Chat; state: ConnectionState; onSignOut: () => void }) {
  const { chat, state, onSignOut } = props;
  switch (state.at) {
    case "connecting":
      return (
        <p>
          <span class="spinner" aria-hidden="true" />
          {state.again ? "Reconnecting" : "Connecting"} to {state.gateway} …
        </p>
      );
    case "waiting":
      return (
        <>
          <p>
            {isOffline() ? (
              "You are offline. What you write is kept, and sent when you are back."
            ) : (
              <>
                Connection lost. Trying {state.gateway}{" "}
                <Countdown untilMs={state.untilMs} />.
              </>
            )}
          </p>
          <button type="button" onClick={() => chat.connection.tryNow()}>
            Try now
          </button>
        </>
      );
    case "ended":
      return (
        <>
          <p>
            {state.signIn
              ? "Your sign-in is no longer valid"
              : "The gateway ended this"}
            : {state.reason}.
          </p>
          {state.signIn ? (
            <button type="button" onClick={onSignOut}>
              Sign in again
            </button>
          ) : (
            <button type="button" onClick={() => chat.connection.tryNow()}>
              Connect again
            </button>
          )}
        </>
      );
    case "connected":
    case "stopped":
      return null;
  }
}

/** Counts for the eye only: a live region that changes every second is no help. */
function Countdown({ untilMs }: { untilMs: number }) {
  const [nowMs, setNowMs] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNowMs(Date.now()), COUNTDOWN_TICK_MS);
    return () => clearInterval(timer);
  }, []);
  const seconds = Math.ceil((untilMs - nowMs) / 1_000);
  if (seconds <= 0) {
    return <span aria-hidden="true">now</span>;
  }
  return (
    <>
      <span aria-hidden="true">in {seconds} s</span>
      <span class="unseen">shortly</span>
    </>
  );
}

/** True for the first moments of a trouble. */
function usePatience(troubled: boolean): boolean {
  const [patient, setPatient] = useState(true);
  useEffect(() => {
    if (!troubled) {
      setPatient(true);
      return undefined;
    }
    const timer = setTimeout(() => setPatient(false), PATIENCE_MS);
    return () => clearTimeout(timer);
  }, [troubled]);
  return troubled && patient;
}

function isOffline(): boolean {
  return !navigator.onLine;
}
