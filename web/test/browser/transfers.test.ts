import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { lookAtAll, SIZES } from "./browser";
import { Cable } from "./cable";
import { Service } from "./service";
import { makeWorld } from "./world";

const home = mkdtempSync(join(tmpdir(), "haulier-home-"));
const world = makeWorld({ HAULIER_HOME: home, HAULIER_OPEN: "true" });

afterAll(() => rmSync(home, { recursive: true, force: true }));

test("what the command line queues is shown, paused, gone on with, and shown when it has arrived", async () => {
  const { service } = world;
  const there = await Service.start();
  service.command("remote", "add", "office", "--type", "haulier", "--url", there.url);
  await there.kill();
  const page = await world.page({ colorScheme: "dark" }, "#transfers");
  await page.getByText("Nothing is being sent.").waitFor();
  service.command("push", world.file("plan.txt", "the plan"), "--to", "office:in/plan.txt", "--no-wait");
  const row = page.locator(".transfers li").filter({ hasText: "office:in/plan.txt" });
  await row.getByText(/waiting|trying again|starting/).waitFor();
  await row.getByRole("button", { name: "Pause" }).click();
  await row.getByText("paused", { exact: true }).waitFor();
  await lookAtAll(page, "transfers");
  await there.run();
  await row.getByRole("button", { name: "Resume" }).click();
  await row.getByText("succeeded").waitFor();
  expect((await there.records()).map(({ filename, status }) => [filename, status])).toEqual([
    ["plan.txt", "completed"],
  ]);
  await there.stop();
});

test("what happened to transfers while the page was cut off is shown once it is back", async () => {
  const { service } = world;
  service.command("remote", "add", "nowhere", "--type", "haulier", "--url", "http://127.0.0.1:9");
  const cable = new Cable(Number(new URL(service.url).port));
  const page = await world.page({}, "#transfers", await cable.lay());
  for (const name of ["ended.txt", "removed.txt"]) {
    service.command("push", world.file(name, name), "--to", `nowhere:${name}`, "--no-wait");
  }
  const row = (name: string) => page.locator(".transfers li").filter({ hasText: `nowhere:${name}` });
  for (const name of ["ended.txt", "removed.txt"]) await row(name).waitFor();
  cable.cut();
  await page.getByText("No connection; trying again").waitFor();
  for (const name of ["ended.txt", "removed.txt"]) {
    const id = (await row(name).getAttribute("data-id")) ?? "";
    service.command("transfers", "cancel", id);
    if (name === "removed.txt") service.command("transfers", "remove", id);
  }
  cable.mend();
  await row("ended.txt").getByText("cancelled").waitFor();
  await row("removed.txt").waitFor({ state: "detached" });
  service.command("transfers", "remove", (await row("ended.txt").getAttribute("data-id")) ?? "");
  await row("ended.txt").waitFor({ state: "detached" });
  cable.remove();
});

test("a long name, and a long reason, are shown whole on a phone", async () => {
  const { service } = world;
  const name = `${"a-long-name-of-a-film".repeat(8)}.mkv`;
  service.command("remote", "add", "away", "--type", "haulier", "--url", "http://127.0.0.1:9");
  service.command("push", world.file(name, "film"), "--to", `away:${name}`, "--no-wait");
  const page = await world.page({ viewport: SIZES.phone }, "#transfers");
  const row = page.locator(".transfers li").filter({ hasText: name });
  await row.locator(".error").waitFor();
  for (const part of [".filename", ".error"]) {
    const cut = await row.locator(part).evaluate((shown) => shown.scrollWidth > shown.clientWidth);
    expect(cut, part).toBe(false);
  }
  const id = (await row.getAttribute("data-id")) ?? "";
  service.command("transfers", "cancel", id);
  service.command("transfers", "remove", id);
  await row.waitFor({ state: "detached" });
});

test("a service that answers slowly is asked once at a time, and what it says is shown", async () => {
  const { service } = world;
  const page = await world.page({}, "#transfers");
  await page.getByRole("heading", { name: "Transfers" }).waitFor();
  await page.clock.install();
  const held: (() => void)[] = [];
  await page.route("**/api/transfers?*live=true*", async (route) => {
    await new Promise<void>((go) => held.push(go));
    await route.continue();
  });
  await page.clock.runFor(30_000);
  await expect.poll(() => held.length).toBe(1);
  await page.clock.runFor(30_000);
  expect(held.length).toBe(1);
  service.command("remote", "add", "slow", "--type", "haulier", "--url", "http://127.0.0.1:9");
  held[0]?.();
  await page.clock.runFor(4000);
  await expect.poll(() => held.length).toBe(2);
  held[1]?.();
});

test("the keyboard stays at a transfer whatever becomes of it, and goes on with the next when it goes", async () => {
  const { service } = world;
  service.command("remote", "add", "closed", "--type", "haulier", "--url", "http://127.0.0.1:9");
  const page = await world.page({}, "#transfers");
  const row = (name: string) => page.locator(".transfers li").filter({ hasText: `closed:${name}` });
  for (const name of ["older.txt", "newer.txt"]) {
    service.command("push", world.file(name, name), "--to", `closed:${name}`, "--no-wait");
    await row(name).waitFor();
  }
  const focused = () => page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? "");
  await row("newer.txt").getByRole("button", { name: "Pause" }).focus();
  await page.keyboard.press("Enter");
  await row("newer.txt").getByText("paused", { exact: true }).waitFor();
  await expect.poll(focused).toBe("Resume: closed:newer.txt");
  await row("newer.txt").getByRole("button", { name: "Cancel" }).press("Enter");
  await row("newer.txt").locator(".badge").getByText("cancelled").waitFor();
  await expect.poll(focused).toBe("Send again: closed:newer.txt");
  const remove = async (name: string): Promise<void> => {
    service.command("transfers", "remove", (await row(name).getAttribute("data-id")) ?? "");
    await row(name).waitFor({ state: "detached" });
  };
  await remove("newer.txt");
  await expect.poll(focused).toMatch(/: closed:older.txt$/);
  for (const button of ["Pause", "Cancel"])
    await row("older.txt").getByRole("button", { name: button }).press("Enter");
  await row("older.txt").locator(".badge").getByText("cancelled").waitFor();
  await remove("older.txt");
});
