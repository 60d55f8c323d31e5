/** Messages that are not in the log yet: on their way, waiting, or stuck. */

import type { Chat } from "../chat/chat";
import type { Outgoing } from "../model/outbox";
import { Avatar, hueOf } from "./avatar";
import { Alert, Clock } from "./icons";
import { Text } from "./message-group";

export function OutgoingList({
  chat,
  outgoing,
}: {
  chat: Chat;
  outgoing: readonly Outgoing[];
}) {
  if (outgoing.length === 0) {
    return null;
  }
  return (
    <article class="group own outgoing" aria-label="Your messages on their way">
      <Avatar user={chat.me} />
      <header class="group-header">
        <b class={`author ink-${hueOf(chat.me)}`}>{chat.me}</b>
        <span class="you">you</span>
      </header>
      {outgoing.map((each) => (
        <OutgoingLine key={each.id} chat={chat} outgoing={each} />
      ))}
    </article>
  );
}

function OutgoingLine({ chat, outgoing }: { chat: Chat; outgoing: Outgoing }) {
  const { id, text, state } = outgoing;
  const connected = chat.connection.state.value.at === "connected";
  return (
    <div class={`message outgoing-${state.at}`} data-id={id} data-state={state.at}>
      <Text text={text} />
      {state.at === "failed" ? (
        <p class="fate trouble" role="alert">
          <Alert />
          <span>
            Not sent. {state.reason}
            <button type="button" class="link" onClick={() => chat.retry(id)}>
              Retry
            </button>
            <button type="button" class="link" onClick={() => chat.discard(id)}>
              Discard
            </button>
          </span>
        </p>
      ) : (
        state.at !== "accepted" && (
          <p class="fate">
            <Clock />
            <span>{fateOf(outgoing, connected)}</span>
          </p>
        )
      )}
    </div>
  );
}

function fateOf({ state, attempts }: Outgoing, connected: boolean): string {
  if (!connected) {
    return "Waits for the connection";
  }
  if (state.at === "resting" || attempts > 0) {
    return "No answer yet, trying again";
  }
  return state.at === "sending" ? "Sending" : "Waits its turn";
}
