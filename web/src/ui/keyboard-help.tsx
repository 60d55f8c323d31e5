/** What the keys do, for those who would rather not use a mouse. */

import { useRef } from "preact/hooks";
import { Keyboard } from "./icons";
import { HELP } from "./shortcuts";

export function KeyboardHelp() {
  const dialog = useRef<HTMLDialogElement>(null);
  return (
    <>
      <button
        type="button"
        class="icon-button wide-only"
        onClick={() => dialog.current?.showModal()}
        aria-label="Keyboard help"
        title="Keyboard help"
      >
        <Keyboard />
      </button>
      <dialog ref={dialog} class="help" aria-labelledby="help-title">
        <h2 id="help-title">Keyboard</h2>
        <dl>
          {HELP.map(([keys, meaning]) => (
            <div key={keys}>
              <dt>
                <kbd>{keys}</kbd>
              </dt>
              <dd>{meaning}</dd>
            </div>
          ))}
        </dl>
        <form method="dialog">
          <button type="submit" class="primary">
            Close
          </button>
        </form>
      </dialog>
    </>
  );
}
