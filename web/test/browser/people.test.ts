import { expect, test } from "vitest";
import { chooser, lookAtAll, rows } from "./browser";
import { Service } from "./service";
import { makeWorld } from "./world";

const world = makeWorld();

test("a browser can show only what came from it", async () => {
  await world.service.put("of-curl.txt", "1");
  const page = await world.page();
  await chooser(page).setInputFiles(world.file("of-this-browser.txt", "2"));
  await page.getByText("1 of 1 file sent").waitFor();
  await page.getByRole("link", { name: "Files" }).click();
  const names = async () => (await rows(page).locator(".filename").allTextContents()).sort();
  await expect.poll(names).toEqual(["of-curl.txt", "of-this-browser.txt"]);
  await page.getByLabel("From this browser").check();
  await expect.poll(names).toEqual(["of-this-browser.txt"]);
  await world.service.put("of-curl-too.txt", "3");
  await page.reload();
  await expect.poll(names).toEqual(["of-this-browser.txt"]);
});

test("where tokens are required one signs in, sees one's own, and signs out", async () => {
  const closed = new Service();
  const [ann, bob] = [closed.token("ann", "--scope", "write"), closed.token("bob", "--scope", "write")];
  await closed.run();
  const headers = { Authorization: `Bearer ${bob}` };
  await fetch(`${closed.url}/api/files/of-bob.txt`, { method: "PUT", headers, body: "bob" });
  const page = await world.page({}, "", closed.url);
  await page.getByLabel("Token").fill("hl_wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("This token is not good, or no longer.").waitFor();
  await lookAtAll(page, "sign-in");
  await page.getByLabel("Token").fill(ann);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("ann", { exact: true }).waitFor();
  await chooser(page).setInputFiles(world.file("of-ann.txt", "ann"));
  await page.getByText("1 of 1 file sent").waitFor();
  await page.getByRole("link", { name: "Files" }).click();
  await rows(page).filter({ hasText: "of-ann.txt" }).filter({ hasText: "completed" }).click();
  const download = page.waitForEvent("download");
  await page.getByRole("dialog").getByRole("link", { name: "Download" }).click();
  expect((await download).suggestedFilename()).toBe("of-ann.txt");
  await page.keyboard.press("Escape");
  expect(await rows(page).locator(".filename").allTextContents()).toEqual(["of-ann.txt"]);
  const kept = await page.evaluate(() =>
    [Object.values(localStorage), Object.values(sessionStorage), document.cookie].join(),
  );
  expect(kept).not.toContain(ann);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("dialog", { name: "Sign in" }).waitFor();
  await closed.stop();
});

test("a sign-in that has ended is asked for anew, also where it was offered and is declined", async () => {
  const guarded = new Service();
  const token = guarded.token("ann", "--scope", "write");
  guarded.command("capsule", "set", "default", "admits_visitors=true", "--data-dir", guarded.dataDir);
  await guarded.run();
  const page = await world.page({}, "#files", guarded.url);
  await page.getByRole("button", { name: "Sign in" }).click();
  const dialog = page.getByRole("dialog", { name: "Sign in" });
  await dialog.waitFor();
  for (const call of ["**/api/records?*", "**/api/session"])
    await page.route(call, (route) => route.fulfill({ status: 401, json: {} }), { times: 1 });
  const refused = page.waitForResponse((answer) => answer.status() === 401);
  await page.evaluate(() => document.querySelector<HTMLFormElement>(".filters")?.requestSubmit());
  await refused;
  await dialog.getByRole("button", { name: "Not now" }).click();
  await dialog.waitFor();
  expect(await dialog.getByRole("button", { name: "Not now" }).count()).toBe(0);
  await dialog.getByLabel("Token").fill(token);
  await dialog.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("ann", { exact: true }).waitFor();
  await page.route("**/api/session", (route) => route.abort(), { times: 1 });
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByText("The service cannot be reached.").waitFor();
  await guarded.stop();
});

test("a sign-in that ended is asked for when a file is added, and the file goes on", async () => {
  const closed = new Service();
  const token = closed.token("ann", "--scope", "write");
  await closed.run();
  const page = await world.page({}, "", closed.url);
  const signIn = async (): Promise<void> => {
    const dialog = page.getByRole("dialog", { name: "Sign in" });
    await dialog.getByLabel("Token").fill(token);
    await dialog.getByRole("button", { name: "Sign in" }).click();
    await dialog.waitFor({ state: "detached" });
  };
  await signIn();
  await chooser(page).waitFor({ state: "attached" });
  await page.context().clearCookies();
  await chooser(page).setInputFiles(world.file("again.txt", "again"));
  await signIn();
  await page.getByText("1 of 1 file sent").waitFor();
  // A stream that is refused for the same reason asks as well.
  await page.context().clearCookies();
  await closed.kill();
  await closed.run();
  await signIn();
  await page.getByRole("link", { name: "Files" }).click();
  const headers = { Authorization: `Bearer ${token}` };
  await fetch(`${closed.url}/api/files/later.txt`, { method: "PUT", headers, body: "later" });
  await rows(page).filter({ hasText: "later.txt" }).waitFor();
  await closed.stop();
});
