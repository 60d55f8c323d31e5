import { defineConfig } from "vitest/config";

// The gateway that `npm run dev` talks to; the built page talks to whoever served it.
const GATEWAY = "http://127.0.0.1:8001";

export default defineConfig({
  // JSX is compiled by Vite itself: Preact needs no plugin for that.
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: "es2022",
    // Everything is a file of its own: the page's content security policy knows no
    // inline scripts, and data: only for images.
    assetsInlineLimit: 0,
    sourcemap: true,
  },
  server: {
    proxy: {
      "/dev": GATEWAY,
      "/connection": { target: GATEWAY, ws: true },
    },
  },
  test: { include: ["src/**/*.test.ts"] },
});
