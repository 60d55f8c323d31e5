/** The page's few icons, drawn on a 20 × 20 grid in the colour of the text around them. */

import type { ComponentChildren } from "preact";

function Icon({ children }: { children: ComponentChildren }) {
  return (
    <svg
      class="icon"
      viewBox="0 0 20 20"
      width="20"
      height="20"
      fill="none"
      stroke="currentColor"
      stroke-width="1.7"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
      focusable="false"
    >
      {children}
    </svg>
  );
}

export const Mark = () => (
  <svg
    class="mark"
    viewBox="0 0 32 32"
    width="28"
    height="28"
    aria-hidden="true"
    focusable="false"
  >
    <rect width="32" height="32" rx="9" fill="currentColor" />
    <g class="mark-lines" stroke-width="2.2" stroke-linecap="round">
      <path d="M10 11.5 22 11.5M10 11.5 16 22.5M22 11.5 16 22.5" />
    </g>
    <g class="mark-dots">
      <circle cx="10" cy="11.5" r="3.3" />
      <circle cx="22" cy="11.5" r="3.3" />
      <circle cx="16" cy="22.5" r="3.3" />
    </g>
  </svg>
);

export const Plus = () => (
  <Icon>
    <path d="M10 4v12M4 10h12" />
  </Icon>
);
export const Back = () => (
  <Icon>
    <path d="M12.5 4.5 7 10l5.5 5.5" />
  </Icon>
);
export const Down = () => (
  <Icon>
    <path d="M10 4.5v11M5 10.5l5 5 5-5" />
  </Icon>
);
export const Send = () => (
  <Icon>
    <path d="M10 16V4.5M4.8 9.5 10 4.3l5.2 5.2" />
  </Icon>
);
export const Clock = () => (
  <Icon>
    <circle cx="10" cy="10" r="6.5" />
    <path d="M10 6.5V10l2.4 1.6" />
  </Icon>
);
export const Alert = () => (
  <Icon>
    <circle cx="10" cy="10" r="7" />
    <path d="M10 6.3v4.4M10 13.6v.1" />
  </Icon>
);
export const SignOut = () => (
  <Icon>
    <path d="M8 3.8H5.2A1.4 1.4 0 0 0 3.8 5.2v9.6a1.4 1.4 0 0 0 1.4 1.4H8M12.8 13.4 16.2 10l-3.4-3.4M16 10H8" />
  </Icon>
);
export const Sun = () => (
  <Icon>
    <circle cx="10" cy="10" r="3.2" />
    <path d="M10 2.8v1.6M10 15.6v1.6M2.8 10h1.6M15.6 10h1.6M4.9 4.9 6 6M14 14l1.1 1.1M15.1 4.9 14 6M6 14l-1.1 1.1" />
  </Icon>
);
export const Moon = () => (
  <Icon>
    <path d="M16.3 11.8A6.7 6.7 0 0 1 8.2 3.7a6.7 6.7 0 1 0 8.1 8.1Z" />
  </Icon>
);
export const Screen = () => (
  <Icon>
    <rect x="3" y="4" width="14" height="9.5" rx="1.6" />
    <path d="M7.5 16.5h5" />
  </Icon>
);
export const Keyboard = () => (
  <Icon>
    <rect x="2.5" y="5" width="15" height="10" rx="1.8" />
    <path d="M5.8 8.3h.1M8.6 8.3h.1M11.4 8.3h.1M14.2 8.3h.1M7 11.8h6" />
  </Icon>
);
export const Stop = () => (
  <Icon>
    <rect x="5.5" y="5.5" width="9" height="9" rx="1.6" fill="currentColor" />
  </Icon>
);
export const Check = () => (
  <Icon>
    <path d="m4.5 10.5 3.6 3.6 7.4-8" />
  </Icon>
);
export const Wrench = () => (
  <Icon>
    <path d="M12.6 3.6a4 4 0 0 0-4.9 5.2l-4.4 4.4a1.7 1.7 0 0 0 2.4 2.4l4.4-4.4a4 4 0 0 0 5.2-4.9l-2.4 2.4-2.1-.6-.6-2.1Z" />
  </Icon>
);
export const People = () => (
  <Icon>
    <circle cx="7.5" cy="7" r="2.8" />
    <path d="M2.3 16c.4-2.9 2.5-4.4 5.2-4.4s4.8 1.5 5.2 4.4M12.6 4.6a2.6 2.6 0 0 1 0 4.9M14.4 11.9c1.9.5 3 1.9 3.3 4.1" />
  </Icon>
);
export const Close = () => (
  <Icon>
    <path d="m5.5 5.5 9 9M14.5 5.5l-9 9" />
  </Icon>
);
