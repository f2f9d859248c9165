import { expect, test } from "vitest";
import type { Page } from "playwright-core";
import { chooser, networkOf, randomFile } from "./browser";
import { makeWorld } from "./world";

const world = makeWorld();
const SMALL = 900_000;

/** The requests with which files are sent from now on. */
function requests(page: Page): string[] {
  const seen: string[] = [];
  page.on("request", (request) => {
    if (/\/api\/(uploads|files)/.test(request.url()))
      seen.push(`${request.method()} ${new URL(request.url()).pathname.split("/").slice(1, 3).join("/")}`);
  });
  return seen;
}

async function sentOnce(page: Page, name: string, digest: string): Promise<void> {
  await page.getByText("1 of 1 file sent").waitFor();
  const found = await world.service.records({ name });
  expect(found.map(({ status }) => status)).toEqual(["completed"]);
  expect(found[0] && (await world.service.digest(found[0]))).toBe(digest);
}

test("a small file is one request", async () => {
  const page = await world.page();
  const seen = requests(page);
  const name = "one request, 100 % ü.txt";
  const { path, digest } = await randomFile(world.service.folder, name, SMALL);
  await chooser(page).setInputFiles(path);
  await sentOnce(page, name, digest);
  expect(seen).toEqual(["PUT api/files"]);
  expect((await world.service.records({ name }))[0]?.content_type).toBe("text/plain");
});

test.each(["the request", "the answer"])("a small file of which %s was lost is there once", async (what) => {
  const page = await world.page();
  const name = `${what.replace(" ", "-")}.bin`;
  const { path, digest } = await randomFile(world.service.folder, name, SMALL);
  await page.route(
    "**/api/files/*",
    async (route) => {
      if (what === "the answer") await route.fetch();
      await route.abort();
    },
    { times: 1 },
  );
  await chooser(page).setInputFiles(path);
  await sentOnce(page, name, digest);
});

test("a small file whose answer was lost in a reload is there once", async () => {
  const page = await world.page();
  const { path, digest } = await randomFile(world.service.folder, "reloaded.bin", SMALL);
  const taken = new Promise<void>((told) => {
    void page.route(
      "**/api/files/*",
      async (route) => {
        await route.fetch();
        told();
      },
      { times: 1 },
    );
  });
  await chooser(page).setInputFiles(path);
  await taken;
  await page.reload();
  // Where the reload came before the file itself was kept, it has to be chosen again.
  const again = page.getByRole("button", { name: "choose the same file again" });
  await again.or(page.getByText("1 of 1 file sent")).first().waitFor();
  if (await again.isVisible()) {
    await again.click();
    await chooser(page).setInputFiles(path);
  }
  await sentOnce(page, "reloaded.bin", digest);
});

test("a small file that was cut goes on where it was", async () => {
  const page = await world.page();
  const network = await networkOf(page);
  const offsets: number[] = [];
  page.on("request", (request) => {
    if (request.method() === "PATCH") offsets.push(Number(request.headers()["upload-offset"]));
  });
  await network.slow(100_000);
  const { path, digest } = await randomFile(world.service.folder, "cut.bin", SMALL);
  await chooser(page).setInputFiles(path);
  await world.service.arrived("cut.bin", 0);
  await world.service.kill();
  await page.getByText("The service cannot be reached.").waitFor();
  await world.service.run();
  await sentOnce(page, "cut.bin", digest);
  expect(offsets.at(-1)).toBeGreaterThan(0);
});

test("a small file that is taken away on its way is freed", async () => {
  const page = await world.page();
  const network = await networkOf(page);
  await network.slow(100_000);
  const { path } = await randomFile(world.service.folder, "taken.bin", SMALL);
  await chooser(page).setInputFiles(path);
  await world.service.arrived("taken.bin", 0);
  await page.getByRole("button", { name: "Cancel" }).first().click();
  await expect
    .poll(async () => (await world.service.records({ name: "taken.bin" })).map(({ status }) => status))
    .toEqual(["cancelled"]);
});
