import { expect, test } from "vitest";
import { chooser, networkOf, randomFile } from "./browser";
import { makeWorld } from "./world";

const world = makeWorld();
const MB = 1_000_000;

async function add(page: Parameters<typeof chooser>[0], ...paths: string[]): Promise<void> {
  await page.getByRole("button", { name: "Add more files" }).click();
  await chooser(page).setInputFiles(paths);
}

async function completed(prefix: string): Promise<string[]> {
  const found = await world.service.records({ name: prefix, status: "completed" });
  return found.map(({ filename }) => filename);
}

test("a small file is not kept behind large ones", async () => {
  const page = await world.page();
  const network = await networkOf(page);
  await network.slow(MB);
  const names = Array.from({ length: 4 }, (_, index) => `wide-${index}.bin`);
  const large = await Promise.all(names.map((name) => randomFile(world.service.folder, name, 12 * MB)));
  await chooser(page).setInputFiles(large.map(({ path }) => path));
  await page.getByText(/0 of 4 files sent, [1-9]/).waitFor();
  await add(page, world.file("wide-small.txt", "small"));
  await page.getByText("1 of 5 files sent").waitFor();
  expect(await completed("wide-")).toEqual(["wide-small.txt"]);
  await network.on();
  await page.getByText("5 of 5 files sent").waitFor();
});

test("a file whose chunks are tried again holds up no other", async () => {
  const page = await world.page();
  let first: string | undefined;
  await page.route("**/chunks/*", async (route) => {
    const [, id] = /uploads\/([^/]+)\/chunks/.exec(route.request().url()) ?? [];
    first ??= id;
    if (id === first) await route.fulfill({ status: 503, headers: { "Retry-After": "300" } });
    else await route.continue();
  });
  const [held, other] = await Promise.all(
    ["held.bin", "other.bin"].map((name) => randomFile(world.service.folder, name, 5 * MB)),
  );
  const answers: string[] = [];
  page.on("response", (answer) => {
    if (answer.status() === 503) answers.push(answer.url());
  });
  await chooser(page).setInputFiles(held?.path ?? "");
  await expect.poll(() => new Set(answers).size).toBe(3);
  await add(page, other?.path ?? "");
  await page.getByText("1 of 2 files sent").waitFor();
  expect(await completed("other.bin")).toEqual(["other.bin"]);
});
