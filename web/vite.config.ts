import { defineConfig } from "vite";

export default defineConfig({
  // The page may be mounted below another address, so nothing in it is absolute.
  base: "./",
  build: {
    assetsDir: "page",
    // Inlined files would be data: URLs in places where the policy forbids them.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
  },
});
