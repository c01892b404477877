export function SavingsChart() {
  return null;
}
