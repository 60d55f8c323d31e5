/** What one says about oneself, and how one wants the page. */

import { useRef, useState } from "preact/hooks";
import type { Chat } from "../chat/chat";
import { NO_STATUS, STATUS_CHARS_MAX } from "../chat/status";
import { Avatar } from "./avatar";
import { ConnectionDot, stateInWords } from "./connection-notice";
import { developer, setDeveloper } from "./preferences";

export function You({ chat }: { chat: Chat }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [text, setText] = useState("");
  const [quiet, setQuiet] = useState(false);
  const [trouble, setTrouble] = useState<string>();
  const status = chat.status.current.value;
  const connection = chat.connection.state.value;

  const open = () => {
    setText(status.text);
    setQuiet(status.doNotDisturb);
    setTrouble(undefined);
    dialog.current?.showModal();
  };
  const say = async (said: { text: string; doNotDisturb: boolean }) => {
    const reason = await chat.status.set(said);
    setTrouble(reason);
    if (reason === undefined) {
      dialog.current?.close();
    }
  };

  return (
    <>
      <button
        type="button"
        class="me-open"
        onClick={open}
        aria-haspopup="dialog"
        title="Your status, and how this page is shown"
      >
        <span class="person-sign">
          <Avatar user={chat.me} />
          {status.doNotDisturb && <span class="presence busy" aria-hidden="true" />}
        </span>
        <span class="me-who">
          <b data-testid="me">{chat.me}</b>
          <span class="me-state">
            <ConnectionDot state={connection} />
            <span data-testid="my-status">
              {status.text !== "" && connection.at === "connected"
                ? status.text
                : stateInWords(connection)}
            </span>
          </span>
        </span>
      </button>
      <dialog ref={dialog} class="help you-dialog" aria-labelledby="you-title">
        <h2 id="you-title">You</h2>
        <form
          onSubmit={(event) => {
            event.preventDefault();
            void say({ text: text.trim(), doNotDisturb: quiet });
          }}
        >
          <label class="field">
            <span>Status</span>
            <input
              value={text}
              maxLength={STATUS_CHARS_MAX}
              placeholder="What are you up to?"
              onInput={(event) => setText(event.currentTarget.value)}
            />
          </label>
          <label class="switch">
            <input
              type="checkbox"
              checked={quiet}
              onChange={(event) => setQuiet(event.currentTarget.checked)}
            />
            <span>Do not disturb</span>
          </label>
          <label class="switch">
            <input
              type="checkbox"
              checked={developer.value}
              onChange={(event) => setDeveloper(event.currentTarget.checked)}
            />
            <span>
              Developer mode <small>offsets, ids and traces under messages</small>
            </span>
          </label>
          {trouble !== undefined && (
            <p class="note trouble" role="alert">
              {trouble}
            </p>
          )}
          <div class="dialog-buttons">
            <button type="submit" class="primary">
              Save
            </button>
            <button type="button" onClick={() => void say(NO_STATUS)}>
              Clear status
            </button>
            <button type="button" onClick={() => dialog.current?.close()}>
              Close
            </button>
          </div>
        </form>
      </dialog>
    </>
  );
}
