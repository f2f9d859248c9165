import { resolve } from "node:path";
import { defineConfig } from "vite";

export default defineConfig({
  // The page may be mounted below another address, so nothing in it is absolute.
  base: "./",
  // What Uppy says of sizes is said in the same units as all else; see the file.
  resolve: { alias: { "@transloadit/prettier-bytes": resolve(import.meta.dirname, "src/upload/bytes.ts") } },
  build: {
    assetsDir: "page",
    // Inlined files would be data: URLs in places where the policy forbids them.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
  },
});
