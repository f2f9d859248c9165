/** Debian's Chromium, headless, by playwright-core. */
import { createHash, randomFillSync } from "node:crypto";
import { createReadStream, existsSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import type axe from "axe-core";
import { expect } from "vitest";
import { chromium, type Browser, type BrowserContext, type Locator, type Page } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
/** How long anything may take before a test fails; a bound against hanging, no measure of speed. */
export const DEADLINE_MS = 30_000;
/** Where pictures of the page are kept. */
export const PICTURES = resolve(import.meta.dirname, "../../../build/page");

export async function launch(...flags: string[]): Promise<Browser> {
  const executablePath = process.env["CHROMIUM"] ?? PLACES.find((place) => existsSync(place));
  if (!executablePath)
    throw new Error("chromium is not installed (tools/install-test-packages installs it as root)");
  return chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--disable-background-networking",
      ...flags,
    ],
  });
}

/** A page that reports what it must not do: errors, and what the policy forbade. */
export async function open(context: BrowserContext, url: string): Promise<Page> {
  const page = await context.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    // Uppy also logs what the page tells people.
    if (message.type() === "error" && !/Failed to load resource|^\[Uppy\]/.test(message.text()))
      complaints.push(message.text());
  });
  complaintsOf.set(page, complaints);
  await page.goto(url);
  return page;
}

/** What went wrong on a page so far. */
export const complaintsOf = new WeakMap<Page, string[]>();

/** The chooser of Uppy's box, which takes files and not folders. */
export function chooser(page: Page): Locator {
  return page.locator("input.uppy-Dashboard-input:not([webkitdirectory])").first();
}

export function rows(page: Page): Locator {
  return page.locator("#files .rows .row");
}

/** A file of random bytes; returns its path and SHA-256. */
export async function randomFile(
  folder: string,
  name: string,
  size: number,
): Promise<{ path: string; digest: string }> {
  const path = join(folder, name);
  const piece = Buffer.alloc(Math.min(size, 16 * 1024 * 1024));
  writeFileSync(path, "");
  for (let left = size; left > 0; left -= piece.length) {
    writeFileSync(path, randomFillSync(piece).subarray(0, Math.min(left, piece.length)), { flag: "a" });
  }
  const hash = createHash("sha256");
  for await (const part of createReadStream(path)) hash.update(part as Buffer);
  return { path, digest: hash.digest("hex") };
}

/** Wait until the browser keeps so many files over a reload; it does that beside the upload. */
export async function kept(page: Page, files: number): Promise<void> {
  const count = () =>
    page.evaluate(async (wanted) => {
      const database = await new Promise<IDBDatabase>((done, failed) => {
        const request = indexedDB.open("uppy-blobs");
        request.onsuccess = () => done(request.result);
        request.onerror = () => failed(new Error("no database"));
      });
      const all = (store: string) =>
        new Promise<unknown[]>((done) => {
          const request = database.transaction(store).objectStore(store).getAll();
          request.onsuccess = () => done(request.result);
        });
      const [blobs, lists] = [await all("files"), await all("metadata")];
      database.close();
      const begun = JSON.stringify(lists).match(/uploadStarted\\*":\d/g) ?? [];
      return begun.length >= Math.max(wanted, 1) ? blobs.length : -1;
    }, files);
  await expect.poll(count).toBe(files);
}

/** The network of one page: so slow that an upload has a middle, then gone, then back. */
export async function networkOf(page: Page): Promise<{
  slow: (bytesPerS: number) => Promise<void>;
  off: () => Promise<void>;
  on: () => Promise<void>;
}> {
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  const set = (offline: boolean, uploadThroughput: number): Promise<void> =>
    session.send("Network.emulateNetworkConditions", {
      offline,
      latency: 0,
      downloadThroughput: -1,
      uploadThroughput,
    }) as unknown as Promise<void>;
  return { slow: (bytesPerS) => set(false, bytesPerS), off: () => set(true, -1), on: () => set(false, -1) };
}

/** What axe-core finds that is serious or worse, in short. */
export async function findings(page: Page): Promise<string[]> {
  // By the debugger, not by a script element: the policy of the page forbids that.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => (globalThis as unknown as { axe: typeof axe }).axe.run());
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 200)).join(" | ")}`);
}

export const SIZES = { desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 780 } } as const;

/** Keep a picture of what is shown in both schemes and widths, with nothing serious against any. */
export async function lookAtAll(page: Page, view: string): Promise<void> {
  for (const [kind, size] of Object.entries(SIZES)) {
    for (const colorScheme of ["light", "dark"] as const) {
      await page.setViewportSize(size);
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.screenshot({ path: `${PICTURES}/${view}-${kind}-${colorScheme}.png` });
      expect(await findings(page), `${view}, ${kind}, ${colorScheme}`).toEqual([]);
    }
  }
}

/** A photograph as a camera makes it, drawn by the browser itself. */
export async function photograph(page: Page, width: number, height: number, hue = 210): Promise<Buffer> {
  const text = await page.evaluate(
    ([wide, high, hue]) => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [wide, high];
      const brush = canvas.getContext("2d");
      if (!brush) throw new Error("no canvas");
      const sky = brush.createLinearGradient(0, 0, wide, high);
      sky.addColorStop(0, `hsl(${hue} 60% 45%)`);
      sky.addColorStop(1, `hsl(${(hue + 190) % 360} 80% 70%)`);
      brush.fillStyle = sky;
      brush.fillRect(0, 0, wide, high);
      brush.fillStyle = `hsl(${(hue + 60) % 360} 45% 25%)`;
      for (let hill = 0; hill < 6; hill += 1) {
        brush.beginPath();
        brush.arc((wide / 5) * hill, high, high / 3, 0, 7);
        brush.fill();
      }
      return canvas.toDataURL("image/jpeg", 0.9).split(",")[1] ?? "";
    },
    [width, height, hue] as const,
  );
  return Buffer.from(text, "base64");
}

/** Read, and perhaps change, the list that the browser keeps, from a document on which nothing else does. */
export async function list(
  page: Page,
  url: string,
  write: string | null,
  forgetFiles = false,
): Promise<string> {
  await page.goto(`${url}/healthz`);
  return page.evaluate(
    async ([write, forgetFiles]) => {
      const database = await new Promise<IDBDatabase>((done) => {
        const request = indexedDB.open("uppy-blobs");
        request.onsuccess = () => done(request.result);
      });
      const store = database.transaction("metadata", "readwrite").objectStore("metadata");
      const [entry] = await new Promise<{ metadata: string }[]>((done) => {
        const request = store.getAll();
        request.onsuccess = () => done(request.result as { metadata: string }[]);
      });
      if (!entry) throw new Error("nothing kept");
      const empty = { files: {}, currentUploads: {}, pluginData: {} };
      const metadata = forgetFiles ? JSON.stringify(empty) : write;
      if (metadata !== null) store.put({ ...entry, metadata });
      database.close();
      return entry.metadata;
    },
    [write, forgetFiles] as const,
  );
}
