import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { chooser, findings, photograph, PICTURES, rows, SIZES } from "./browser";
import { Service } from "./service";
import { makeWorld } from "./world";

const world = makeWorld();

test.each([
  ["light", "desktop"],
  ["dark", "desktop"],
  ["light", "phone"],
  ["dark", "phone"],
] as const)("every view in %s on a %s has nothing serious against it", async (colorScheme, kind) => {
  await world.service.put("a long name of a film that nobody will ever read to its end, part 12.mkv", "film");
  await world.service.put("notes.txt", "notes", { path: "work/2026/notes.txt" });
  const page = await world.page({ colorScheme, viewport: SIZES[kind], reducedMotion: "reduce" });
  const check = async (view: string): Promise<void> => {
    await page.screenshot({ path: `${PICTURES}/${view}-${kind}-${colorScheme}.png` });
    expect(await findings(page), view).toEqual([]);
    const wide = await page.evaluate(
      () => document.documentElement.scrollWidth > document.documentElement.clientWidth,
    );
    expect(wide, `${view} is wider than the screen`).toBe(false);
  };
  await page.getByText("Drop files here").waitFor();
  await check("upload-empty");
  await chooser(page).setInputFiles([world.file("one.txt", "one"), world.file("two.txt", "two")]);
  await page.getByText("2 of 2 files sent").waitFor();
  await page.getByRole("button", { name: "Done" }).waitFor();
  await check("upload");
  await page.getByRole("link", { name: "Files" }).click();
  await rows(page).filter({ hasText: "notes.txt" }).first().waitFor();
  await check("files");
  await rows(page).filter({ hasText: "notes.txt" }).first().click();
  await page.getByRole("dialog").waitFor();
  await check("file");
});

test("the first load is at most 150 kB of script, and everything comes from the service", async () => {
  const page = await world.page();
  await page.getByText("Drop files here").waitFor();
  const loaded = await page.evaluate(() => performance.getEntriesByType("resource").map(({ name }) => name));
  expect(
    loaded.filter(
      (address) => !address.startsWith(`${world.service.url}/`) && !/^(data|blob):/.test(address),
    ),
  ).toEqual([]);
  const scripts = loaded.filter((address) => address.endsWith(".js"));
  expect(scripts.length).toBeGreaterThan(0);
  const sizes = await Promise.all(
    scripts.map(async (script) => gzipSync(new Uint8Array(await (await fetch(script)).arrayBuffer())).length),
  );
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThanOrEqual(150_000);
});

test("the picture in the README shows the page as it is", async () => {
  const own = await Service.start();
  const page = await world.page(
    { viewport: { width: 1100, height: 620 }, reducedMotion: "reduce" },
    "#files",
    own.url,
  );
  await own.put("minutes.pdf", new Uint8Array(184_320), { path: "office/2026/minutes.pdf" });
  await own.put("survey.csv", "a,b\n1,2\n".repeat(4000));
  for (const [name, hue] of [
    ["harbour.jpg", 205],
    ["hills.jpg", 95],
    ["evening.jpg", 28],
  ] as const) {
    await own.put(name, await photograph(page, 1200, 900, hue), { path: `holiday/${name}` });
  }
  await own.put("film.mkv", new Uint8Array(7_340_032));
  await expect.poll(() => rows(page).filter({ hasText: "completed" }).count()).toBe(6);
  const pictures = rows(page).locator("img[src*='/assets/thumbnail']");
  await expect
    .poll(() =>
      pictures.evaluateAll((all) => all.filter((image) => (image as HTMLImageElement).complete).length),
    )
    .toBe(3);
  await page.screenshot({ path: `${PICTURES}/readme.png` });
  await own.stop();
});
