import { expect, test } from "vitest";
import type { Page } from "playwright-core";
import { chooser, kept, launch, networkOf, open, randomFile, rows } from "./browser";
import { makeWorld } from "./world";

const world = makeWorld({ HAULIER_OPEN: "true" });

test("eight tabs upload at once, and each hears what all of them did", async () => {
  const context = await world.browser.newContext();
  const pages: Page[] = [];
  for (let tab = 0; tab < 8; tab += 1) pages.push(await open(context, world.service.url));
  const files = await Promise.all(
    pages.map((_, tab) => randomFile(world.service.folder, `tab-${tab}.bin`, 3_000_000)),
  );
  await Promise.all(pages.map((page, tab) => chooser(page).setInputFiles(files[tab]?.path ?? "")));
  await Promise.all(pages.map((page) => page.getByText("1 of 1 file sent").waitFor()));
  const records = await world.service.records({ name: "tab-" });
  expect(records.length).toBe(8);
  const digests = await Promise.all(records.map((record) => world.service.digest(record)));
  expect(digests.sort()).toEqual(files.map(({ digest }) => digest).sort());
  for (const page of pages) {
    await page.bringToFront();
    await page.getByRole("link", { name: "Files" }).click();
    await expect
      .poll(() => rows(page).filter({ hasText: "tab-" }).filter({ hasText: "completed" }).count())
      .toBe(8);
  }
  // The tab that has the stream closes; another one takes it.
  await pages[0]?.close();
  await world.service.put("afterwards.txt", "x");
  for (const page of pages.slice(1)) await rows(page).filter({ hasText: "afterwards.txt" }).waitFor();
  await context.close();
});

test("who reads far below stays there when another tab closes", async () => {
  await world.service.put("first.txt", "x");
  world.service.fill(600);
  const context = await world.browser.newContext();
  const first = await open(context, `${world.service.url}/#files`);
  await rows(first).filter({ hasText: "row-" }).first().waitFor();
  const second = await open(context, `${world.service.url}/#files`);
  // Before there are rows nobody says how many.
  await rows(second).first().waitFor();
  const bottom = () =>
    second.evaluate(() => {
      const grid = document.querySelector("#files .table");
      if (!grid) throw new Error("no list");
      grid.scrollTop = grid.scrollHeight;
      return grid.getAttribute("aria-rowcount");
    });
  await expect.poll(bottom).not.toBe("-1");
  const last = rows(second).filter({ hasText: "row-000599.txt" });
  await last.waitFor();
  const before = await last.boundingBox();
  const readAgain = second.waitForResponse((answer) => answer.url().includes("/api/records?"));
  await first.close();
  await readAgain;
  await world.service.put("after.txt", "x");
  await expect
    .poll(() => second.getByRole("grid").getAttribute("aria-rowcount"))
    .toBe(String((await world.service.count()) + 1));
  expect(await last.boundingBox()).toEqual(before);
  await context.close();
});

test("what a closed tab left unfinished, the next one goes on with", async () => {
  const context = await world.browser.newContext();
  const first = await open(context, world.service.url);
  const { path, digest } = await randomFile(world.service.folder, "left.bin", 6_000_000);
  const network = await networkOf(first);
  await network.slow(1_000_000);
  await chooser(first).setInputFiles(path);
  await first.getByText(/0 of 1 file sent, [1-9]/).waitFor();
  await kept(first, 1);
  await first.close();
  const second = await open(context, world.service.url);
  await second.getByText("1 of 1 file sent").waitFor();
  const found = await world.service.records({ name: "left.bin" });
  expect(found.map(({ status }) => status)).toEqual(["completed"]);
  expect(found[0] && (await world.service.digest(found[0]))).toBe(digest);
  await context.close();
});

test("on a plain http name, where browsers give less, it works as well", async () => {
  const browser = await launch("--host-resolver-rules=MAP files.example 127.0.0.1");
  const context = await browser.newContext();
  const page = await open(context, world.service.url.replace("127.0.0.1", "files.example"));
  expect(await page.evaluate(() => [isSecureContext, "locks" in navigator, "randomUUID" in crypto])).toEqual([
    false,
    false,
    false,
  ]);
  const { path, digest } = await randomFile(world.service.folder, "plain.bin", 6_000_000);
  const network = await networkOf(page);
  await network.slow(1_000_000);
  await chooser(page).setInputFiles(path);
  await page.getByText(/0 of 1 file sent, [1-9]/).waitFor();
  await kept(page, 1);
  await network.on();
  await page.reload();
  await page.getByText("1 of 1 file sent").waitFor();
  await page.getByRole("link", { name: "Files" }).click();
  await rows(page).filter({ hasText: "plain.bin" }).filter({ hasText: "completed" }).waitFor();
  const [record] = await world.service.records({ name: "plain.bin" });
  expect(record && (await world.service.digest(record))).toBe(digest);
  await world.service.put("live.txt", "x");
  await rows(page).filter({ hasText: "live.txt" }).waitFor();
  await browser.close();
});
