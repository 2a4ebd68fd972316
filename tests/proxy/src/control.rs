//! The endpoint that a test tells its lies to: `GET`, `POST` and `DELETE /lies`, `POST /interrupt`.

use std::io;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::ledger::Ledger;
use crate::rule::{self, Interrupt, Interrupted, Rule, Told};

/// Serves until `stop`.
pub(crate) async fn serve(listener: TcpListener, ledger: Ledger, stop: CancellationToken) -> io::Result<()> {
    let router = Router::new()
        .route("/lies", get(read).post(tell).delete(withdraw))
        .route("/interrupt", post(interrupt))
        .with_state(ledger);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

async fn read(State(ledger): State<Ledger>) -> Json<rule::Ledger> {
    Json(ledger.read())
}

async fn tell(
    State(ledger): State<Ledger>,
    Json(rule): Json<Rule>,
) -> Result<(StatusCode, Json<Told>), (StatusCode, &'static str)> {
    let told = ledger
        .tell(rule)
        .map_err(|problem| (StatusCode::UNPROCESSABLE_ENTITY, problem))?;
    Ok((StatusCode::CREATED, Json(told)))
}

async fn withdraw(State(ledger): State<Ledger>) -> StatusCode {
    ledger.withdraw();
    StatusCode::NO_CONTENT
}

async fn interrupt(State(ledger): State<Ledger>, Json(asked): Json<Interrupt>) -> Json<Interrupted> {
    Json(Interrupted {
        watches: ledger.interrupt(&asked.prefix),
    })
}
