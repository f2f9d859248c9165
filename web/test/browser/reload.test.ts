import { expect, test } from "vitest";
import { chooser, kept, list } from "./browser";
import { makeWorld } from "./world";

const world = makeWorld();

test("files that were chosen in the moment of a reload are in the list after it", async () => {
  const page = await world.page();
  await chooser(page).waitFor({ state: "attached" });
  const loaded = page.waitForEvent("load");
  await chooser(page).evaluate((input: HTMLInputElement) => {
    const transfer = new DataTransfer();
    for (const name of ["moment-1.txt", "moment-2.txt"]) transfer.items.add(new File(["moment"], name));
    input.files = transfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
    location.reload();
  });
  await loaded;
  await page.getByText(/of 2 files sent/).waitFor();
  for (const name of ["moment-1.txt", "moment-2.txt"])
    await page.locator(".uppy-Dashboard-Item").filter({ hasText: name }).waitFor();
});

test("a file that is kept goes on by itself, also when a reload came before its row was stored", async () => {
  const page = await world.page();
  await page.route("**/api/uploads", () => undefined);
  await page.route("**/api/files/*", () => undefined);
  await chooser(page).setInputFiles(world.file("unstored.txt", "unstored"));
  await kept(page, 1);
  await list(page, world.service.url, null, true);
  await page.unrouteAll();
  await page.goto(world.service.url);
  await page.getByText("1 of 1 file sent").waitFor();
  const found = await world.service.records({ name: "unstored.txt" });
  expect(found.map(({ status, size }) => [status, size])).toEqual([["completed", 8]]);
});

test("a file that arrived is not sent again when a reload came before its end was stored", async () => {
  const page = await world.page();
  const held: (() => Promise<void>)[] = [];
  const hold = (pattern: string) =>
    page.route(pattern, (route) => void held.push(() => route.continue()), { times: 1 });
  await hold("**/api/uploads");
  await hold("**/api/files/*");
  await chooser(page).setInputFiles(world.file("arrived.txt", "arrived"));
  await kept(page, 1);
  const before = await page.evaluate(async () => {
    const database = await new Promise<IDBDatabase>((done) => {
      const request = indexedDB.open("uppy-blobs");
      request.onsuccess = () => done(request.result);
    });
    const [entry] = await new Promise<{ metadata: string }[]>((done) => {
      const request = database.transaction("metadata").objectStore("metadata").getAll();
      request.onsuccess = () => done(request.result as { metadata: string }[]);
    });
    database.close();
    return entry?.metadata ?? null;
  });
  for (const go of held) await go();
  await page.getByText("1 of 1 file sent").waitFor();
  // As a reload finds it that came before the end was written down.
  await list(page, world.service.url, before);
  await page.goto(world.service.url);
  await chooser(page).setInputFiles(world.file("next.txt", "next"));
  await page.getByText("1 of 1 file sent").waitFor();
  expect(await world.service.records({ name: "arrived.txt" })).toHaveLength(1);
});

test("after a reload rows whose files are gone are not shown, and one request asks for all", async () => {
  const page = await world.page();
  const names = ["there-1.txt", "there-2.txt", "gone.txt"];
  await chooser(page).setInputFiles(names.map((name) => world.file(name, name)));
  await page.getByText("3 of 3 files sent").waitFor();
  await page.route("**/api/files/*", () => undefined);
  await page.getByRole("button", { name: "Add more files" }).click();
  await chooser(page).setInputFiles(world.file("under-way.txt", "x"));
  await page.getByText("3 of 4 files sent").waitFor();
  const [gone] = await world.service.records({ name: "gone.txt" });
  await fetch(`${world.service.url}/api/records/${gone?.id ?? ""}`, { method: "DELETE" });
  const asked: number[] = [];
  page.on("request", (request) => {
    const ids = new URL(request.url()).searchParams.getAll("id");
    if (ids.length > 0) asked.push(ids.length);
  });
  await page.unrouteAll();
  await page.reload();
  await page.getByText(/of 3 files sent/).waitFor();
  expect(asked).toEqual([3]);
  await expect
    .poll(() => page.locator(".uppy-Dashboard-Item").filter({ hasText: "gone.txt" }).count())
    .toBe(0);
});
