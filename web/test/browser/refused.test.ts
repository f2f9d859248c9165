import { expect, test } from "vitest";
import type { Page } from "playwright-core";
import { chooser, kept, networkOf, randomFile, rows } from "./browser";
import { makeWorld } from "./world";

const world = makeWorld();

/** What a browser may say where a page wants to keep something; run in the page, before it. */
const REFUSALS: Record<string, () => void> = {
  "storage that throws": () => {
    const refuse = (): never => {
      throw new DOMException("refused", "SecurityError");
    };
    for (const name of ["getItem", "setItem", "removeItem", "key"]) {
      Object.defineProperty(Storage.prototype, name, { value: refuse });
    }
    IDBFactory.prototype.open = refuse;
  },
  "no storage at all": () => {
    const refuse = (): never => {
      throw new DOMException("refused", "SecurityError");
    };
    for (const name of ["localStorage", "sessionStorage"])
      Object.defineProperty(window, name, { get: refuse });
    Object.defineProperty(window, "indexedDB", { value: undefined });
  },
  "a full storage": () => {
    Storage.prototype.setItem = () => {
      throw new DOMException("full", "QuotaExceededError");
    };
  },
};

async function refused(refusal: () => void): Promise<Page> {
  const page = await world.page({}, "", "about:blank#");
  await page.addInitScript(refusal);
  await page.goto(world.service.url);
  return page;
}

test.each(Object.keys(REFUSALS))("with %s one can upload, pause, go on, and see the file", async (kind) => {
  const page = await refused(REFUSALS[kind] ?? (() => undefined));
  const { path, digest } = await randomFile(world.service.folder, `${kind}.bin`, 4_000_000);
  const network = await networkOf(page);
  await network.slow(2_000_000);
  await chooser(page).setInputFiles(path);
  await page.getByText(/0 of 1 file sent, [1-9]/).waitFor();
  await page.getByRole("button", { name: "Pause", exact: true }).click();
  await page.getByText("Paused").first().waitFor();
  await network.on();
  await page.getByRole("button", { name: "Resume", exact: true }).click();
  await page.getByText("1 of 1 file sent").waitFor();
  await page.getByRole("link", { name: "Files" }).click();
  await rows(page).filter({ hasText: kind }).filter({ hasText: "completed" }).waitFor();
  // Begun once: what the browser does not keep the page still knows.
  const found = await world.service.records({ name: kind });
  expect(found.map(({ status }) => status)).toEqual(["completed"]);
  expect(found[0] && (await world.service.digest(found[0]))).toBe(digest);
});

test("a file that the browser refuses to keep stays in the list, and goes on once it is chosen again", async () => {
  const page = await refused(() => {
    IDBObjectStore.prototype.add = () => {
      throw new DOMException("full", "QuotaExceededError");
    };
  });
  const { path, digest } = await randomFile(world.service.folder, "unkept.bin", 12_000_000);
  const network = await networkOf(page);
  await network.slow(4_000_000);
  await chooser(page).setInputFiles(path);
  await page.getByText(/0 of 1 file sent, [5-9]/).waitFor();
  await network.off();
  await page.getByText("The service cannot be reached.").waitFor();
  await kept(page, 0);
  await network.on();
  await page.reload();
  const sent: string[] = [];
  page.on("request", (request) => {
    if (request.method() === "PUT") sent.push(request.url());
  });
  await page.getByRole("button", { name: "choose the same file again" }).click();
  await chooser(page).setInputFiles(path);
  await page.getByText("1 of 1 file sent").waitFor();
  // Twelve chunks in all; those that had arrived are not sent again.
  expect(sent.length).toBeLessThan(12);
  const found = await world.service.records({ name: "unkept.bin" });
  expect(found.map(({ status }) => status)).toEqual(["completed"]);
  expect(found[0] && (await world.service.digest(found[0]))).toBe(digest);
});

test("where nothing can be kept the page says that files have to be chosen again, and they go on", async () => {
  const page = await refused(() => Object.defineProperty(window, "indexedDB", { value: undefined }));
  await page.getByText("this browser keeps no files").waitFor();
  const { path } = await randomFile(world.service.folder, "nowhere.bin", 4_000_000);
  const network = await networkOf(page);
  await network.slow(1_000_000);
  await chooser(page).setInputFiles(path);
  await page.getByText(/0 of 1 file sent, [2-9]/).waitFor();
  await page.reload();
  await network.on();
  await chooser(page).setInputFiles(path);
  await page.getByText("1 of 1 file sent").waitFor();
  expect((await world.service.records({ name: "nowhere.bin" })).length).toBe(1);
});
